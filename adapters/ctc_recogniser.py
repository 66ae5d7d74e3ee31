"""Codes -> text with CTC."""

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
from vqasr.assets import resolve_ctc
from vqasr.errors import RecogniserError
from vqasr.fingerprint import weights_fingerprint

LOGIT_S = 0.02
# Words further apart than this begin a new segment, and so do words that would make it longer than
# a reader of subtitles likes.
PAUSE_S = 0.5
LONGEST_SEGMENT_S = 7.0


class CTCRecogniser(Recogniser):
    """A `VQWav2Vec2ForCTC`, decoded greedily.

    Args:
        model: the model.
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
        """Load model and tokenizer.

        Args:
            name_or_path: "ctc-small" (ships with the package), a folder or a hub id.

        Raises:
            RecogniserError: not there, or no such model.
        """
        source = resolve_ctc(str(name_or_path))
        try:
            model = VQWav2Vec2ForCTC.from_pretrained(source, dtype=torch.float32)
            tokenizer = Wav2Vec2CTCTokenizer.from_pretrained(source)
        except Exception as error:  # the hub, safetensors, JSON and torch each raise their own
            raise RecogniserError(
                f"recogniser {str(name_or_path)!r} cannot be loaded "
                f"({str(error).splitlines()[0]}). Use 'ctc-small', or a folder or hub id that "
                "VQWav2Vec2ForCTC.save_pretrained and a tokenizer wrote."
            ) from error
        return cls(model, tokenizer)

    @classmethod
    def with_adapter(cls, asr: str, adapter: CodesAdapter) -> "CTCRecogniser":
        """A Wav2Vec2, HuBERT or WavLM by name, with an adapter that was trained for it.

        Raises:
            RecogniserError: it cannot be loaded, or has other weights than the adapter's.
        """
        try:
            base = AutoModelForCTC.from_pretrained(asr, dtype=torch.float32)
            tokenizer = Wav2Vec2CTCTokenizer.from_pretrained(asr)
        except Exception as error:  # as above
            raise RecogniserError(
                f"recogniser {asr!r} cannot be loaded ({str(error).splitlines()[0]}). Name a "
                "folder or hub id of a CTC model with its tokenizer."
            ) from error
        if base_fingerprint(base) != adapter.base_fingerprint:
            raise RecogniserError(
                f"the adapter was trained for {adapter.base_model}, whose weights are not those of "
                f"{asr}. Use the recogniser it was trained for, or train an adapter."
            )
        model = VQWav2Vec2ForCTC.from_base(base, adapter.embedder, adapter.codec_fingerprint)
        return cls(model, tokenizer)

    def transcribe_audio(self, clips: list[np.ndarray]) -> list[str]:
        raise RecogniserError(
            "this recogniser reads codes only and cannot hear audio. Give it codes, or use a "
            "Whisper (--asr tiny.en)."
        )

    def fingerprint(self) -> bytes:
        return weights_fingerprint(self.model.state_dict())

    def read_texts(self, heard: Tensor) -> list[str]:
        return [self.tokenizer.decode(ids) for ids in self._best(heard)]

    def read_segments(self, heard: Tensor) -> list[list[Segment]]:
        found = []
        for ids in self._best(heard):
            decoded: Any = self.tokenizer.decode(ids, output_word_offsets=True)
            words = [
                Segment(LOGIT_S * o["start_offset"], LOGIT_S * o["end_offset"], o["word"])
                for o in decoded["word_offsets"]
            ]
            found.append(group_words(words))
        return found

    def _best(self, heard: Tensor) -> list[Tensor]:
        """The likeliest token of each frame that exists."""
        out = self.model.hear(heard)
        ids = out.logits.argmax(-1)
        return [row[: 2 * int(n)] for row, n in zip(ids, self.embedder.lengths(heard), strict=True)]


def group_words(words: list[Segment]) -> list[Segment]:
    """Words to segments that fit a subtitle."""
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
