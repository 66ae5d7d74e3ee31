"""Codes to the embeddings of a recogniser, and to text."""

from vqasr.audio._torchaudio import ensure_torchaudio

ensure_torchaudio()  # as in vqasr.codec
