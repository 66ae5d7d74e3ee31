"""Codes -> text with Whisper."""

import numpy as np
from torch import Tensor

from vqasr.adapters.adapter import CodesAdapter
from vqasr.adapters.original_whisper import OriginalWhisper, load_whisper
from vqasr.adapters.recogniser import Recogniser
from vqasr.adapters.segments import Segment
from vqasr.adapters.whisper import VQWhisperForConditionalGeneration, to_features
from vqasr.assets import bundled_adapters
from vqasr.errors import RecogniserError


class WhisperRecogniser(Recogniser):
    """Whisper reading codes.

    Args:
        recogniser: the base model; its weights are shared and stay as they are.
        adapter: trained for it.
        padded: read windows of 30 s as stock Whisper does; otherwise, where the adapter has closing
            frames, no more than the frames that exist.

    Raises:
        RecogniserError: the adapter was trained for other weights.
    """

    def __init__(self, recogniser: OriginalWhisper, adapter: CodesAdapter, padded: bool = False):
        if adapter.base_fingerprint != recogniser.fingerprint():
            raise RecogniserError(
                f"the adapter was trained for {adapter.base_model}, whose weights are not those of "
                f"{recogniser.name}. Use the recogniser it was trained for, or train an adapter."
            )
        self.recogniser = recogniser
        self.adapter = adapter
        self.embedder = adapter.embedder
        self.codec_fingerprint = adapter.codec_fingerprint
        self.model = VQWhisperForConditionalGeneration.from_base(
            recogniser.model, adapter.embedder, adapter.codec_fingerprint, padded
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
        """Load recogniser and adapter; without `adapter`, the one that ships for its weights.

        language, task: see `load_whisper`.

        Raises:
            RecogniserError: either cannot be had.
        """
        recogniser = load_whisper(asr, language, task)
        if adapter is not None:
            return cls(recogniser, CodesAdapter.from_pretrained(adapter), padded)
        for name in bundled_adapters():
            bundled = CodesAdapter.from_pretrained(name)
            if bundled.base_fingerprint == recogniser.fingerprint():
                return cls(recogniser, bundled, padded)
        raise RecogniserError(
            f"no adapter ships for the recogniser {asr!r} (there are {bundled_adapters()}). Give "
            "the folder of an adapter trained for it."
        )

    def transcribe_audio(self, clips: list[np.ndarray]) -> list[str]:
        return self.recogniser.transcribe_audio(clips)

    def fingerprint(self) -> bytes:
        return self.recogniser.fingerprint()

    def read_texts(self, heard: Tensor) -> list[str]:
        return self.recogniser.generate_text(self.model, to_features(heard))

    def read_segments(self, heard: Tensor) -> list[list[Segment]]:
        return self.recogniser.generate_segments(self.model, to_features(heard))
