"""Transcribe codes with a CTC model."""

import copy
import hashlib
import os
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCTC, AutoTokenizer

from vqasr.adapters.adapter import CodesAdapter
from vqasr.adapters.ctc import VQWav2Vec2ForCTC, base_fingerprint
from vqasr.adapters.ctc_tokens import CTCTokens
from vqasr.adapters.embedder import CodeEmbedder
from vqasr.adapters.language_model import BeamSearch
from vqasr.adapters.recogniser import Recogniser
from vqasr.adapters.segments import Segment
from vqasr.assets import resolve
from vqasr.errors import RecogniserError
from vqasr.grid import FRAME_S
from vqasr.names import split_name

# A longer pause begins a new segment, and so does a word that would make it longer than a subtitle.
PAUSE_S = 0.5
LONGEST_SEGMENT_S = 7.0


class CTCRecogniser(Recogniser):
    """Decode a `VQWav2Vec2ForCTC` greedily, or with a language model.

    Args:
        model: reads the codes.
        tokenizer: of its letters (Wav2Vec2) or word pieces (Parakeet).
        search: decodes with a language model; None for the likeliest letters alone.
    """

    reads_audio = False
    embedder: CodeEmbedder

    def __init__(
        self,
        model: VQWav2Vec2ForCTC,
        tokenizer: Any,
        search: BeamSearch | None = None,
    ):
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.tokens = CTCTokens(tokenizer)
        self.search = search
        self.embedder = model.embedder
        self.codec_fingerprint = bytes.fromhex(model.config.codec_fingerprint)
        self.logit_s = FRAME_S / model.config.logits_per_frame

    @classmethod
    def from_pretrained(cls, name_or_path: str | os.PathLike[str]) -> "CTCRecogniser":
        """Load a CTC model that reads codes by itself, with its tokenizer.

        Args:
            name_or_path: "ctc-small" (bundled), a folder or a hub id; with "+lm" its language
                model is used, with "+lm:FILE" the one in an ARPA file.

        Raises:
            RecogniserError: it is missing, or no such model.
        """
        name, language_model = split_name(str(name_or_path))
        model, tokenizer = _load(VQWav2Vec2ForCTC, name)
        if language_model is None:
            return cls(model, tokenizer)
        if language_model:
            return cls(model, tokenizer, BeamSearch(language_model, CTCTokens(tokenizer)))
        return cls(model, tokenizer, BeamSearch.of(name, CTCTokens(tokenizer)))

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

    def fingerprint(self) -> bytes:
        own = self.model.fingerprint()
        if self.search is None:
            return own
        return hashlib.sha256(own + self.search.fingerprint).digest()[:6]

    def greedy(self) -> "CTCRecogniser":
        """Return the same recogniser without a language model."""
        other = copy.copy(self)
        other.search = None
        return other

    def read_texts(self, codes: Tensor) -> list[str]:
        if self.search is None:
            return [self.tokenizer.decode(row.argmax(-1)) for row in self._logits(codes)]
        return [" ".join(word.text for word in self._words(row)) for row in self._logits(codes)]

    def read_segments(self, codes: Tensor) -> list[list[Segment]]:
        return [group_words(self._words(row)) for row in self._logits(codes)]

    def _words(self, logits: Tensor) -> list[Segment]:
        if self.search is not None:
            return self.search.words(logits, self.logit_s)
        return self.tokens.words(self.tokens.spans(logits.argmax(-1).tolist()), self.logit_s)

    def _logits(self, codes: Tensor) -> list[Tensor]:
        """Compute logits of the frames that exist, (frames, letters) for each item."""
        # Windows without speech have been left out.
        logits = self.model.read(codes.to(self.model.device), gated=False).logits.cpu()
        rows = zip(logits, self.embedder.lengths(codes), strict=True)
        return [row[: self.model.config.logits_per_frame * int(n)] for row, n in rows]


def _load(model_class: Any, name: str) -> tuple[Any, Any]:
    try:
        source = resolve(name)
        model = model_class.from_pretrained(source, dtype=torch.float32, use_safetensors=True)
        return model, AutoTokenizer.from_pretrained(source)
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
