"""Read CTC logits with a word n-gram: beam search of torchaudio on flashlight-text and KenLM."""

import gzip
import hashlib
import lzma
import os
import re
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Wav2Vec2CTCTokenizer
from transformers.utils.hub import cached_file

from vqasr.adapters.segments import Segment
from vqasr.assets import resolve
from vqasr.errors import RecogniserError

FILE = "language_model.arpa.xz"
MARK = "+lm"  # of a recogniser's name, see `split_name`
# Chosen on dev and dev_cv (recipes/recognition).
WEIGHT, BEAM_SIZE, BEAM_THRESHOLD = 1.5, 100, 15.0
NEVER = -30.0  # log-probability


class BeamSearch:
    """Find the words that acoustic model and word n-gram together find likeliest.

    Words that the n-gram does not know cannot be found.

    Args:
        arpa: the n-gram, an ARPA file of lower-case words, plain or packed by xz or gzip.
        tokenizer: of the letters in the logits.

    Attributes:
        fingerprint: 6 bytes that identify the n-gram and the settings of the search.

    Raises:
        RecogniserError: flashlight-text is not installed, or the file cannot be read.
    """

    def __init__(self, arpa: str | os.PathLike[str], tokenizer: Wav2Vec2CTCTokenizer):
        try:
            from flashlight.lib.text import decoder  # noqa: F401 (torchaudio hides its absence)
            from torchaudio.models.decoder import ctc_decoder
        except ImportError as error:
            raise RecogniserError(
                f"a language model needs flashlight-text ({error}): pip install 'vqasr[lm]'."
            ) from error
        try:
            packed = Path(arpa).read_bytes()
            text = _unpacked(packed).decode()
        except (OSError, EOFError, lzma.LZMAError, zlib.error, UnicodeDecodeError) as error:
            raise RecogniserError(f"{arpa}: no ARPA file ({error}).") from error
        settings = f"{WEIGHT} {BEAM_SIZE} {BEAM_THRESHOLD}".encode()
        self.fingerprint = hashlib.sha256(packed + settings).digest()[:6]
        vocabulary = tokenizer.get_vocab()
        tokens = sorted(vocabulary, key=vocabulary.__getitem__)
        self._space = vocabulary[tokenizer.word_delimiter_token]
        words = [word for word in unigrams(text) if all(letter in vocabulary for letter in word)]
        if not words:
            raise RecogniserError(f"{arpa}: no word of it can be written in the model's letters.")
        with tempfile.TemporaryDirectory() as folder, _quiet():
            model, lexicon = Path(folder) / "model.arpa", Path(folder) / "lexicon"
            model.write_text(text)
            space = tokenizer.word_delimiter_token
            lexicon.write_text("".join(f"{w} {' '.join(w)} {space}\n" for w in words))
            self._decoder: Any = ctc_decoder(
                str(lexicon), tokens, str(model), nbest=1, beam_size=BEAM_SIZE,
                beam_threshold=BEAM_THRESHOLD, lm_weight=WEIGHT,
                blank_token=tokenizer.pad_token, sil_token=space,
                unk_word=tokenizer.unk_token, unk_score=float("-inf"),
            )  # fmt: skip

    @classmethod
    def of(cls, name: str, tokenizer: Wav2Vec2CTCTokenizer) -> "BeamSearch":
        """Load the n-gram in the folder, hub id or bundled model of this name.

        Raises:
            RecogniserError: it has none, or as `BeamSearch`.
        """
        path = cached_file(resolve(name), FILE, _raise_exceptions_for_missing_entries=False)
        if path is None:
            raise RecogniserError(
                f"{name} has no language model ({FILE}). Leave {MARK!r} out, or name another one's "
                f"file, as in {name}{MARK}:words.arpa; recipes/recognition/train_lm.py makes one."
            )
        return cls(path, tokenizer)

    def words(self, logits: Tensor, frame_s: float) -> list[Segment]:
        """Find the words in logits (frames, letters), with the times of their letters."""
        scores = logits.float().log_softmax(-1).cpu()
        # Words end with a space; after the last one the model writes none.
        space = torch.full_like(scores[:1], NEVER)
        space[0, self._space] = 0.0
        hypotheses = self._decoder(torch.cat([scores, space])[None].contiguous())[0]
        if not hypotheses:
            return []
        best, segments = hypotheses[0], []
        start: int | None = None
        words = iter(best.words)
        for token, frame in zip(best.tokens.tolist(), best.timesteps.tolist(), strict=True):
            if token != self._space:
                start, end = (frame if start is None else start), frame + 1
            elif start is not None:
                word = next(words, None)  # none for the beginning of a word
                if word is not None:
                    segments.append(Segment(frame_s * start, frame_s * end, word))
                start = None
        return segments


def split_name(name: str) -> tuple[str, str | None]:
    """Split a recogniser's name into the model's name and its language model.

    The language model is "" for the model's own, as in "ctc-small+lm"; a file, as in
    "ctc-small+lm:words.arpa"; or None if there is none.
    """
    found = re.fullmatch(rf"(.+){re.escape(MARK)}(?::(.+))?", name, re.DOTALL)
    return (name, None) if found is None else (found[1], found[2] or "")


def _unpacked(data: bytes) -> bytes:
    if data.startswith(b"\xfd7zXZ"):
        return lzma.decompress(data)
    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


def unigrams(arpa: str) -> Iterator[str]:
    """Yield the words of an ARPA file, without its marks <s>, </s> and <unk>."""
    section = arpa.partition("\\1-grams:\n")[2].partition("\n\n")[0]
    for line in section.splitlines():
        word = line.split("\t")[1]
        if not word.startswith("<"):
            yield word


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop what KenLM prints to stderr, below Python's own."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        for handle in (kept, nowhere):
            os.close(handle)
