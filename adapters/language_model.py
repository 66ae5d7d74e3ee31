"""Read CTC logits with a word n-gram: beam search of torchaudio on flashlight-text and KenLM."""

import gzip
import hashlib
import lzma
import os
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.utils.hub import cached_file

from vqasr.adapters.ctc_tokens import CTCTokens
from vqasr.adapters.segments import Segment
from vqasr.assets import resolve
from vqasr.errors import RecogniserError
from vqasr.names import LANGUAGE_MODEL

FILE = "language_model.arpa.xz"
# Chosen on dev and dev_cv (recipes/recognition).
# Weight of the n-gram's log-probabilities, and nats for each word.
OF_LETTERS, OF_PIECES = (1.5, -0.5), (1.0, 1.5)
BEAM_SIZE, BEAM_TOKENS, BEAM_THRESHOLD = 200, 10, 20.0
NEVER = -30.0  # log-probability


class BeamSearch:
    """Find the words that acoustic model and word n-gram together find likeliest.

    Words that the n-gram does not know cannot be found.

    Args:
        arpa: the n-gram, an ARPA file of lower-case words, plain or packed by xz or gzip.
        tokens: of the logits.

    Attributes:
        fingerprint: 6 bytes that identify the n-gram and the settings of the search.

    Raises:
        RecogniserError: flashlight-text is not installed, or the file cannot be read.
    """

    def __init__(self, arpa: str | os.PathLike[str], tokens: CTCTokens):
        try:
            from flashlight.lib.text import decoder  # noqa: F401 (torchaudio hides its absence)
            from torchaudio.models.decoder import ctc_decoder
        except ImportError as error:
            raise RecogniserError(
                f"a language model needs flashlight-text ({error}): pip install 'vqasr[lm]'."
            ) from error
        text = _read(Path(arpa))
        weight, word_score = OF_PIECES if tokens.space is None else OF_LETTERS
        settings = f"{weight} {word_score} {BEAM_SIZE} {BEAM_TOKENS} {BEAM_THRESHOLD} sum"
        self.fingerprint = hashlib.sha256((text + settings).encode()).digest()[:6]
        self._tokens = tokens
        found = list(unigrams(text))
        if not found:
            raise RecogniserError(f"{arpa}: no ARPA file, or one without words.")
        spelled = {word: names for word in found if (names := tokens.of_word(word))}
        if not spelled:
            letters = "".join(sorted({letter for text in tokens.texts for letter in text.strip()}))
            raise RecogniserError(
                f"{arpa}: none of its words can be written in the model's letters ({letters}). "
                "Write them in lower case."
            )
        with tempfile.TemporaryDirectory() as folder, _quiet():
            model, lexicon = Path(folder) / "model.arpa", Path(folder) / "lexicon"
            model.write_text(text, encoding="utf-8")
            # Letters end words with a space; pieces begin them.
            end = "" if tokens.space is None else f" {tokens.names[tokens.space]}"
            lines = (f"{word} {' '.join(names)}{end}\n" for word, names in spelled.items())
            lexicon.write_text("".join(lines), encoding="utf-8")
            blank = tokens.names[tokens.blank]
            silence = blank if tokens.space is None else tokens.names[tokens.space]
            try:
                self._decoder: Any = ctc_decoder(
                    str(lexicon), tokens.names, str(model), nbest=1, beam_size=BEAM_SIZE,
                    beam_size_token=BEAM_TOKENS, beam_threshold=BEAM_THRESHOLD, lm_weight=weight,
                    word_score=word_score, blank_token=blank, sil_token=silence,
                    log_add=True,  # a hypothesis has the sum of its alignments
                    unk_word="<unk>", unk_score=float("-inf"),
                )  # fmt: skip
            except RuntimeError as error:  # of KenLM, in several lines; the reason is in the last
                reason = str(error).strip().splitlines()[-1]
                raise RecogniserError(
                    f"{arpa}: KenLM cannot read it ({reason}). It needs an ARPA file of order 2 to "
                    "6, as recipes/recognition/train_lm.py makes one."
                ) from error

    @classmethod
    def of(cls, name: str, tokens: CTCTokens) -> "BeamSearch":
        """Load the n-gram in the folder, hub id or bundled model of this name.

        Raises:
            RecogniserError: it has none, or as `BeamSearch`.
        """
        path = cached_file(resolve(name), FILE, _raise_exceptions_for_missing_entries=False)
        if path is None:
            raise RecogniserError(
                f"{name} has no language model ({FILE}). Leave {LANGUAGE_MODEL!r} out, or name an "
                f"ARPA file, as in {name}{LANGUAGE_MODEL}:words.arpa; "
                "recipes/recognition/train_lm.py makes one."
            )
        return cls(path, tokens)

    def words(self, logits: Tensor, frame_s: float) -> list[Segment]:
        """Find the words in logits (frames, letters), with the times of their letters."""
        scores = logits.float().log_softmax(-1).cpu()
        if self._tokens.space is not None:
            # Words end with a space; after the last one the model writes none.
            space = torch.full_like(scores[:1], NEVER)
            space[0, self._tokens.space] = 0.0
            scores = torch.cat([scores, space])
        hypotheses = self._decoder(scores[None].contiguous())[0]
        if not hypotheses:
            return []
        best = hypotheses[0]
        places = zip(best.tokens.tolist(), best.timesteps.tolist(), strict=True)
        spans = ((place, place + 1, self._tokens.texts[token]) for token, place in places)
        return self._tokens.words(spans, frame_s, best.words)


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RecogniserError(f"{path}: cannot be read ({error.strerror}).") from error
    try:
        if data.startswith(b"\xfd7zXZ"):
            data = lzma.decompress(data)
        elif data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
        text = data.decode("utf-8-sig")
    except (OSError, EOFError, lzma.LZMAError, zlib.error, UnicodeDecodeError) as error:
        raise RecogniserError(
            f"{path}: no ARPA file, plain or packed by xz or gzip ({error})."
        ) from error
    return text.replace("\r\n", "\n")


def unigrams(arpa: str) -> Iterator[str]:
    """Yield the words of an ARPA file, without its marks <s>, </s> and <unk>."""
    section = arpa.partition("\\1-grams:\n")[2].partition("\n\\")[0]
    for line in section.splitlines():
        fields = line.split()
        if len(fields) > 1 and not fields[1].startswith("<"):
            yield fields[1]


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
