"""vqasr: a VQ codec for speech whose codes recognisers read directly.

The names in `__all__` are public; each is loaded on first use (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vqasr.adapters.transcriber import Transcriber, Transcript, transcribe
    from vqasr.audio.sources import load_audio
    from vqasr.codec.configuration import VQCodecConfig
    from vqasr.codec.feature_extraction import VQCodecFeatureExtractor
    from vqasr.codec.modeling import VQCodecModel
    from vqasr.compression.compress import (
        LiveDecoder,
        LiveEncoder,
        compress,
        decode,
        load_codec,
    )
    from vqasr.entropy.prior import CodePrior
    from vqasr.errors import VqasrError
    from vqasr.evaluation.evaluate import evaluate
    from vqasr.stream.header import StreamHeader
    from vqasr.stream.reader import StreamReader
    from vqasr.stream.stream import Stream
    from vqasr.stream.writer import StreamWriter

__version__ = "0.1.0"

_MODULES = {
    "vqasr.adapters.transcriber": ("Transcriber", "Transcript", "transcribe"),
    "vqasr.audio.sources": ("load_audio",),
    "vqasr.codec.configuration": ("VQCodecConfig",),
    "vqasr.codec.feature_extraction": ("VQCodecFeatureExtractor",),
    "vqasr.codec.modeling": ("VQCodecModel",),
    "vqasr.compression.compress": (
        "LiveDecoder",
        "LiveEncoder",
        "compress",
        "decode",
        "load_codec",
    ),
    "vqasr.entropy.prior": ("CodePrior",),
    "vqasr.errors": ("VqasrError",),
    "vqasr.evaluation.evaluate": ("evaluate",),
    "vqasr.stream.header": ("StreamHeader",),
    "vqasr.stream.reader": ("StreamReader",),
    "vqasr.stream.stream": ("Stream",),
    "vqasr.stream.writer": ("StreamWriter",),
}

__all__ = [  # noqa: RUF022 grouped by use
    "compress",
    "Stream",
    "decode",
    "transcribe",
    "Transcriber",
    "Transcript",
    "LiveEncoder",
    "LiveDecoder",
    "StreamReader",
    "StreamWriter",
    "StreamHeader",
    "CodePrior",
    "VQCodecModel",
    "VQCodecConfig",
    "VQCodecFeatureExtractor",
    "load_codec",
    "load_audio",
    "evaluate",
    "VqasrError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            globals()[name] = value = getattr(import_module(module), name)
            return value
    raise AttributeError(f"module 'vqasr' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
