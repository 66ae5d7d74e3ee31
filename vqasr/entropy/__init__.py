"""Codes to bits and back: the code prior, range coder and packing; no torch."""
