"""Map codes to the embeddings of a recogniser, and to text.

The names in `__all__` are public; each is loaded on first use (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vqasr.audio._torchaudio import ensure_torchaudio

if TYPE_CHECKING:
    from vqasr.adapters.adapter import CodesAdapter
    from vqasr.adapters.agreement import AgreementStream
    from vqasr.adapters.code_features import CodesFeatureExtractor
    from vqasr.adapters.ctc import VQWav2Vec2Config, VQWav2Vec2ForCTC
    from vqasr.adapters.ctc_recogniser import CTCRecogniser
    from vqasr.adapters.ctc_stream import CTCStream
    from vqasr.adapters.embedder import CodeEmbedder
    from vqasr.adapters.loading import load_recogniser
    from vqasr.adapters.pipeline import CodesPipeline
    from vqasr.adapters.processor import CodesProcessor
    from vqasr.adapters.recogniser import Recogniser
    from vqasr.adapters.whisper import VQWhisperConfig, VQWhisperForConditionalGeneration
    from vqasr.adapters.whisper_recogniser import WhisperRecogniser

ensure_torchaudio()  # as in vqasr.codec

_MODULES = {
    "adapter": ("CodesAdapter",),
    "agreement": ("AgreementStream",),
    "code_features": ("CodesFeatureExtractor",),
    "ctc": ("VQWav2Vec2Config", "VQWav2Vec2ForCTC"),
    "ctc_recogniser": ("CTCRecogniser",),
    "ctc_stream": ("CTCStream",),
    "embedder": ("CodeEmbedder",),
    "loading": ("load_recogniser",),
    "pipeline": ("CodesPipeline",),
    "processor": ("CodesProcessor",),
    "recogniser": ("Recogniser",),
    "whisper": ("VQWhisperConfig", "VQWhisperForConditionalGeneration"),
    "whisper_recogniser": ("WhisperRecogniser",),
}

__all__ = [
    "AgreementStream",
    "CTCRecogniser",
    "CTCStream",
    "CodeEmbedder",
    "CodesAdapter",
    "CodesFeatureExtractor",
    "CodesPipeline",
    "CodesProcessor",
    "Recogniser",
    "VQWav2Vec2Config",
    "VQWav2Vec2ForCTC",
    "VQWhisperConfig",
    "VQWhisperForConditionalGeneration",
    "WhisperRecogniser",
    "load_recogniser",
]


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            globals()[name] = value = getattr(import_module(f"vqasr.adapters.{module}"), name)
            return value
    raise AttributeError(f"module 'vqasr.adapters' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


import_module("vqasr.adapters.auto")  # at the end: its modules are parts of this package
