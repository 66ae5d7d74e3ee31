"""Bits to bytes and back: the `.vqs` stream; no torch."""
