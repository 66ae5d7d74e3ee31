"""Speech to codes and back, without code prior and stream."""

from vqasr.audio._torchaudio import ensure_torchaudio

# First of all: transformers imports torchaudio eagerly, which fails beside a CPU-only torch.
ensure_torchaudio()
