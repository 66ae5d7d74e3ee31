"""Transcribe codes with Whisper."""

from typing import Any

import numpy as np
from torch import Tensor

from vqasr.adapters.adapter import CodesAdapter
from vqasr.adapters.original_whisper import OriginalWhisper, load_whisper, repeats_itself
from vqasr.adapters.recogniser import Recogniser
from vqasr.adapters.segments import Segment
from vqasr.adapters.whisper import VQWhisperForConditionalGeneration, to_features
from vqasr.assets import BUNDLED_ADAPTERS
from vqasr.errors import RecogniserError


class WhisperRecogniser(Recogniser):
    """Transcribe codes with Whisper.

    Args:
        whisper: the base model; its weights are shared and stay unchanged.
        adapter: trained for it.
        padded: see `VQWhisperConfig`.

    Raises:
        RecogniserError: the adapter was trained for other weights.
    """

    def __init__(self, whisper: OriginalWhisper, adapter: CodesAdapter, padded: bool = False):
        adapter.check_base(whisper.name, whisper.fingerprint())
        self.whisper = whisper
        self.adapter = adapter
        self.embedder = adapter.embedder
        self.codec_fingerprint = adapter.codec_fingerprint
        self.model = VQWhisperForConditionalGeneration.from_base(
            whisper.model, adapter.embedder, adapter.codec_fingerprint, padded
        )

    @classmethod
    def from_pretrained(
        cls,
        asr: str = "tiny.en",
        adapter: str | None = None,
        padded: bool = False,
        language: str | None = None,
        task: str | None = None,
    ) -> "WhisperRecogniser":
        """Load a Whisper and its adapter.

        Args:
            asr, language, task: see `load_whisper`.
            adapter: folder, hub id or name; None for the one bundled for the Whisper's weights.
            padded: see `VQWhisperConfig`.

        Raises:
            RecogniserError: one of them cannot be loaded, or no adapter is bundled.
        """
        whisper = load_whisper(asr, language, task)
        if adapter is not None:
            return cls(whisper, CodesAdapter.from_pretrained(adapter), padded)
        for name in BUNDLED_ADAPTERS:
            bundled = CodesAdapter.from_pretrained(name)
            if bundled.base_fingerprint == whisper.fingerprint():
                return cls(whisper, bundled, padded)
        raise RecogniserError(
            f"no adapter ships for the recogniser {asr!r}, only {', '.join(BUNDLED_ADAPTERS)}. "
            "Give the folder of an adapter trained for it."
        )

    def transcribe_audio(self, clips: list[np.ndarray]) -> list[str]:
        return self.whisper.transcribe_audio(clips)

    def fingerprint(self) -> bytes:
        return self.whisper.fingerprint()

    def read_texts(self, codes: Tensor) -> list[str]:
        features = to_features(codes)
        texts = self.whisper.generate_text(self.model, features)
        # Without padding Whisper may miss the end of a short phrase and repeat it.
        again = [i for i, text in enumerate(texts) if repeats_itself(text)]
        encoder: Any = self.model.model.encoder
        if again and not encoder.padded:
            with encoder.setting("padded"):
                padded = self.whisper.generate_text(self.model, features[again])
            for i, text in zip(again, padded, strict=True):
                texts[i] = text
        return texts

    def read_segments(self, codes: Tensor) -> list[list[Segment]]:
        return self.whisper.generate_segments(self.model, to_features(codes))
