"""Transcribe codes with a CTC model."""

import os
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCTC, Wav2Vec2CTCTokenizer

from vqasr.adapters.adapter import CodesAdapter
from vqasr.adapters.ctc import VQWav2Vec2ForCTC, base_fingerprint
from vqasr.adapters.embedder import CodeEmbedder
from vqasr.adapters.recogniser import Recogniser
from vqasr.adapters.segments import Segment
from vqasr.assets import resolve
from vqasr.errors import RecogniserError

LOGIT_S = 0.02
# A longer pause begins a new segment, and so does a word that would make it longer than a subtitle.
PAUSE_S = 0.5
LONGEST_SEGMENT_S = 7.0


class CTCRecogniser(Recogniser):
    """Decode a `VQWav2Vec2ForCTC` greedily.

    Args:
        model: reads the codes.
        tokenizer: of its characters.
    """

    reads_audio = False
    embedder: CodeEmbedder

    def __init__(self, model: VQWav2Vec2ForCTC, tokenizer: Wav2Vec2CTCTokenizer):
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.embedder = model.embedder
        self.codec_fingerprint = bytes.fromhex(model.config.codec_fingerprint)

    @classmethod
    def from_pretrained(cls, name_or_path: str | os.PathLike[str]) -> "CTCRecogniser":
        """Load a CTC model that reads codes by itself, with its tokenizer.

        Args:
            name_or_path: "ctc-small" (bundled), a folder or a hub id.

        Raises:
            RecogniserError: it is missing, or no such model.
        """
        return cls(*_load(VQWav2Vec2ForCTC, str(name_or_path)))

    @classmethod
    def with_adapter(cls, asr: str, adapter: CodesAdapter) -> "CTCRecogniser":
        """Load a Wav2Vec2, HuBERT or WavLM, and put an adapter before it.

        Args:
            asr: folder or hub id of the model.
            adapter: trained for it.

        Raises:
            RecogniserError: it cannot be loaded, or the adapter was trained for other weights.
        """
        base, tokenizer = _load(AutoModelForCTC, asr)
        adapter.check_base(asr, base_fingerprint(base))
        model = VQWav2Vec2ForCTC.from_base(base, adapter.embedder, adapter.codec_fingerprint)
        return cls(model, tokenizer)

    def transcribe_audio(self, clips: list[np.ndarray]) -> list[str]:
        raise RecogniserError(
            "this recogniser reads codes only, not audio. Give it codes, or use a Whisper "
            "(--asr tiny.en)."
        )

    def fingerprint(self) -> bytes:
        return self.model.fingerprint()

    def read_texts(self, codes: Tensor) -> list[str]:
        return [self.tokenizer.decode(ids) for ids in self._best(codes)]

    def read_segments(self, codes: Tensor) -> list[list[Segment]]:
        segments = []
        for ids in self._best(codes):
            decoded: Any = self.tokenizer.decode(ids, output_word_offsets=True)
            words = [
                Segment(LOGIT_S * o["start_offset"], LOGIT_S * o["end_offset"], o["word"])
                for o in decoded["word_offsets"]
            ]
            segments.append(group_words(words))
        return segments

    def _best(self, codes: Tensor) -> list[Tensor]:
        """Return the likeliest token of each frame that exists."""
        ids = self.model.read(codes).logits.argmax(-1)
        return [row[: 2 * int(n)] for row, n in zip(ids, self.embedder.lengths(codes), strict=True)]


def _load(model_class: Any, name: str) -> tuple[Any, Wav2Vec2CTCTokenizer]:
    source = resolve(name)
    try:
        model = model_class.from_pretrained(source, dtype=torch.float32, use_safetensors=True)
        return model, Wav2Vec2CTCTokenizer.from_pretrained(source)
    except Exception as error:  # the hub, safetensors, JSON and torch each raise their own
        raise RecogniserError(
            f"recogniser {name!r} cannot be loaded ({str(error).splitlines()[0]}). Use "
            "'ctc-small', or a folder or hub id of a CTC model with its tokenizer."
        ) from error


def group_words(words: list[Segment]) -> list[Segment]:
    """Join words to segments that fit a subtitle."""
    groups: list[list[Segment]] = []
    for word in words:
        last = groups[-1] if groups else None
        if (
            last is None
            or word.start_s - last[-1].end_s > PAUSE_S
            or word.end_s - last[0].start_s > LONGEST_SEGMENT_S
        ):
            groups.append([word])
        else:
            last.append(word)
    return [Segment(g[0].start_s, g[-1].end_s, " ".join(w.text for w in g)) for g in groups]
