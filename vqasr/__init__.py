"""vqasr: speech as a few hundred bits per second that recognisers read directly.

What is listed in `__all__` is public; each name is loaded when it is first used (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vqasr.adapters.transcriber import Transcriber, Transcript, transcribe
    from vqasr.audio.sources import load_audio
    from vqasr.codec.configuration import VQCodecConfig
    from vqasr.codec.feature_extraction import VQCodecFeatureExtractor
    from vqasr.codec.modeling import VQCodecModel
    from vqasr.compression.compress import LiveEncoder, compress, decode, load_codec
    from vqasr.entropy.prior import CodePrior
    from vqasr.errors import VqasrError
    from vqasr.stream.header import StreamHeader
    from vqasr.stream.reader import StreamReader
    from vqasr.stream.stream import Stream
    from vqasr.stream.writer import StreamWriter

__version__ = "0.1.0"

_HOMES = {
    "CodePrior": "vqasr.entropy.prior",
    "LiveEncoder": "vqasr.compression.compress",
    "Stream": "vqasr.stream.stream",
    "StreamHeader": "vqasr.stream.header",
    "StreamReader": "vqasr.stream.reader",
    "StreamWriter": "vqasr.stream.writer",
    "Transcriber": "vqasr.adapters.transcriber",
    "Transcript": "vqasr.adapters.transcriber",
    "VQCodecConfig": "vqasr.codec.configuration",
    "VQCodecFeatureExtractor": "vqasr.codec.feature_extraction",
    "VQCodecModel": "vqasr.codec.modeling",
    "VqasrError": "vqasr.errors",
    "compress": "vqasr.compression.compress",
    "decode": "vqasr.compression.compress",
    "load_audio": "vqasr.audio.sources",
    "load_codec": "vqasr.compression.compress",
    "transcribe": "vqasr.adapters.transcriber",
}

__all__ = [  # noqa: RUF022 grouped by use
    "compress",
    "Stream",
    "decode",
    "transcribe",
    "Transcriber",
    "Transcript",
    "LiveEncoder",
    "StreamReader",
    "StreamWriter",
    "StreamHeader",
    "CodePrior",
    "VQCodecModel",
    "VQCodecConfig",
    "VQCodecFeatureExtractor",
    "load_codec",
    "load_audio",
    "VqasrError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'vqasr' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
