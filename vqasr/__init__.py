"""vqasr: speech as a few hundred bits per second that recognisers read directly."""

from vqasr.audio._torchaudio import ensure_torchaudio

# First of all: transformers imports torchaudio eagerly, which fails beside a CPU-only torch.
ensure_torchaudio()

from transformers import AutoConfig, AutoFeatureExtractor, AutoModel  # noqa: E402

from vqasr.codec.configuration import VQCodecConfig  # noqa: E402
from vqasr.codec.feature_extraction import VQCodecFeatureExtractor  # noqa: E402
from vqasr.codec.modeling import VQCodecModel  # noqa: E402
from vqasr.stream.whole import read_stream, stream_from_bytes, stream_to_bytes, write_stream  # noqa: E402

# So that AutoModel.from_pretrained(folder) works where vqasr has been imported.
AutoConfig.register("vqcodec", VQCodecConfig)
AutoModel.register(VQCodecConfig, VQCodecModel)
AutoFeatureExtractor.register(VQCodecConfig, VQCodecFeatureExtractor)

__version__ = "0.1.0"

__all__ = [
    "VQCodecConfig",
    "VQCodecFeatureExtractor",
    "VQCodecModel",
    "read_stream",
    "stream_from_bytes",
    "stream_to_bytes",
    "write_stream",
]
