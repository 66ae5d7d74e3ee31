"""Speech to codes and back; knows neither code prior nor stream."""

from vqasr.audio._torchaudio import ensure_torchaudio

# First of all: transformers imports torchaudio eagerly, which fails beside a CPU-only torch.
ensure_torchaudio()
