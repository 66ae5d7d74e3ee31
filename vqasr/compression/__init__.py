"""Audio to streams at a rate, and back: codec, code prior and stream together."""
