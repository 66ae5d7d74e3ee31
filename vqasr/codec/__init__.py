"""Speech to codes and back."""
