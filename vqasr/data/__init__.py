"""Data sets of speech and of codes."""
