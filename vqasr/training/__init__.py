"""Training of codec, adapter and code prior, stage by stage."""
