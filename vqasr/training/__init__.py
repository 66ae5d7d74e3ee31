"""Training of codec and adapter in three stages."""
