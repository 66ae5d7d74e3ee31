"""Recognise codes while they come in, by agreement of successive decodings."""

import re

import numpy as np

from vqasr.adapters.recogniser import Recogniser
from vqasr.adapters.windows import SMOOTHING_FRAMES, cut_windows
from vqasr.errors import RecogniserError
from vqasr.grid import FRAME_RATE_HZ, FRAME_S, WINDOW_FRAMES, WINDOW_S

UPDATE_S = 1.0
# At least this part of the codes is new in each decoding: its time grows with their number, and
# must not exceed that of the speech.
NEW_SHARE = 4


class AgreementStream:
    """Turn codes into text that is written as soon as it is certain.

    The codes since the last cut are decoded again whenever `update_s` more have come in, or a
    quarter more if that is longer. Words on which two successive decodings agree are final (Liu et
    al. 2020, arXiv 2005.11185; for Whisper Machacek et al. 2023, arXiv 2307.14743). Long speech is
    cut in pauses, as in whole recordings.

    Args:
        recogniser: any that reads codes.
        update_s: least seconds of speech between two decodings.

    Raises:
        RecogniserError: update_s is shorter than a frame (0.04 s) or longer than 30 s.
    """

    def __init__(self, recogniser: Recogniser, *, update_s: float = UPDATE_S):
        if not FRAME_S <= update_s <= WINDOW_S:
            raise RecogniserError(
                f"update_s={update_s}: seconds from {FRAME_S} to {WINDOW_S} are needed."
            )
        self._recogniser, self._update = recogniser, round(FRAME_RATE_HZ * update_s)
        self._codes: np.ndarray | None = None  # (n, frames) since the last cut
        self._decoded = 0  # frames of them in the last decoding
        self._last: list[str] = []  # words of the last decoding
        self._final: list[str] = []  # words since the last cut that are written
        self._words: list[str] = []  # all words that are written

    @property
    def text(self) -> str:
        """Return what is certain so far."""
        return " ".join(self._words)

    def push(self, codes: np.ndarray) -> str:
        """Take the next (n, frames) int codes, any number of frames; return the words they settle.

        Raises:
            InvalidCodesError: the codes have a wrong shape or type, are out of range, or have
                another n than those before.
        """
        new = self._recogniser.checked_next(codes, self._codes).numpy()
        written = len(self._words)
        # In pieces, so that the text does not depend on how the codes are pushed.
        while new.shape[1]:
            held = 0 if self._codes is None else self._codes.shape[1]
            due = self._decoded + max(self._update, self._decoded // NEW_SHARE)
            taken = min(due, WINDOW_FRAMES + SMOOTHING_FRAMES) - held
            piece, new = new[:, :taken], new[:, taken:]
            self._codes = piece if self._codes is None else np.concatenate([self._codes, piece], 1)
            if self._codes.shape[1] == WINDOW_FRAMES + SMOOTHING_FRAMES:
                self._cut()
            elif self._codes.shape[1] == due:
                self._decode()
        return self._since(written)

    def finish(self) -> str:
        """Decode the rest; return its words."""
        written = len(self._words)
        if self._codes is not None and self._codes.shape[1]:
            self._settle(self._read(self._codes))
        self._codes, self._final, self._last, self._decoded = None, [], [], 0
        return self._since(written)

    def _since(self, written: int) -> str:
        new = " ".join(self._words[written:])
        return f" {new}" if written and new else new

    def _read(self, codes: np.ndarray) -> list[str]:
        return self._recogniser.transcribe_codes([codes])[0].split()

    def _decode(self) -> None:
        """Decode the codes since the last cut; settle the words that are as last time."""
        assert self._codes is not None  # `push` has set them
        words = self._read(self._codes)
        self._settle(words[: agreeing(self._last, words)])
        self._last, self._decoded = words, self._codes.shape[1]

    def _cut(self) -> None:
        """Settle the codes before a pause, and go on with those after it."""
        assert self._codes is not None  # `push` has set them
        speech = self._recogniser.speech_probability(self._codes)
        cut = cut_windows(speech)[0][1]
        self._settle(self._read(self._codes[:, :cut]))
        self._codes = self._codes[:, cut:]
        self._final, self._last, self._decoded = [], [], self._codes.shape[1]

    def _settle(self, words: list[str]) -> None:
        """Write the words behind those that are written already."""
        new = words[continuation(self._final, words) :]
        self._final += new
        self._words += new


def agreeing(one: list[str], other: list[str]) -> int:
    """Return the number of first words that are equal but for case and punctuation."""
    count = 0
    for a, b in zip(map(_plain, one), map(_plain, other), strict=False):
        if a != b:
            break
        count += 1
    return count


def continuation(written: list[str], words: list[str]) -> int:
    """Return how many first words are those written already, by the least edit distance."""
    row = list(range(len(words) + 1))
    for i, old in enumerate(map(_plain, written), 1):
        above, row[0] = row[0], i
        for j, word in enumerate(map(_plain, words), 1):
            above, row[j] = row[j], min(above + (old != word), row[j] + 1, row[j - 1] + 1)
    lengths = range(len(row))
    return min(lengths, key=lambda j: (row[j], abs(j - len(written))))


def _plain(word: str) -> str:
    return re.sub(r"\W", "", word.lower())
