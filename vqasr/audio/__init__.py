"""Reading, resampling and changing audio."""
