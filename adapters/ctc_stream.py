"""Recognise codes with a CTC model while they come in."""

import math

import numpy as np
import torch
from torch import Tensor

from vqasr.adapters.ctc_recogniser import CTCRecogniser
from vqasr.errors import RecogniserError
from vqasr.grid import FRAME_RATE_HZ, FRAME_S

CHUNK_S, LOOK_AHEAD_S, CONTEXT_S = 2.0, 1.0, 3.0


class CTCStream:
    """Turn codes into text piece by piece, with a bounded look-ahead.

    Speech is read in chunks. A chunk is read once, with the context before it and the look-ahead
    after it, and its text is final: it depends on the codes alone, not on how they were pushed. A
    word is at most chunk_s + look_ahead_s old when it is written.

    Args:
        recogniser: a CTC model; its likeliest tokens are written.
        chunk_s: seconds of speech whose text is written together.
        look_ahead_s: seconds after the chunk that are read with it.
        context_s: seconds before the chunk that are read with it.

    Raises:
        RecogniserError: chunk_s is shorter than a frame (0.04 s), or another duration is negative
            or not finite.
    """

    def __init__(
        self,
        recogniser: CTCRecogniser,
        *,
        chunk_s: float = CHUNK_S,
        look_ahead_s: float = LOOK_AHEAD_S,
        context_s: float = CONTEXT_S,
    ):
        extra_s = (look_ahead_s, context_s)
        if not (FRAME_S <= chunk_s < math.inf and all(0 <= s < math.inf for s in extra_s)):
            raise RecogniserError(
                f"chunk_s={chunk_s}, look_ahead_s={look_ahead_s}, context_s={context_s}: finite "
                f"durations are needed, of a chunk at least {FRAME_S} s, of the others at least 0."
            )
        chunk, look_ahead, context = (round(FRAME_RATE_HZ * s) for s in (chunk_s, *extra_s))
        self._recogniser = recogniser
        self._chunk, self._look_ahead, self._context = chunk, look_ahead, context
        self._codes: Tensor | None = None  # (n, frames) that are still read
        self._before = 0  # frames of them that are context
        self._last = -1  # token of the last frame
        self._text = ""

    @property
    def text(self) -> str:
        """Return what was recognised so far."""
        return self._text.strip()

    def push(self, codes: np.ndarray) -> str:
        """Take the next (n, frames) int codes, any number of frames; return the text they complete.

        Raises:
            InvalidCodesError: the codes have a wrong shape or type, are out of range, or have
                another n than those before.
        """
        new = self._recogniser.checked_next(codes, self._codes)
        self._codes = new if self._codes is None else torch.cat([self._codes, new], 1)
        length = len(self._text)
        while self._codes.shape[1] >= self._before + self._chunk + self._look_ahead:
            self._read(self._chunk)
        return self._text[length:]

    def finish(self) -> str:
        """Read the rest; return its text."""
        length = len(self._text)
        while self._codes is not None and self._codes.shape[1] > self._before:
            self._read(min(self._chunk, self._codes.shape[1] - self._before))
        return self._text[length:]

    @torch.inference_mode()
    def _read(self, frames: int) -> None:
        """Read the next frames and drop what is no longer needed."""
        assert self._codes is not None  # `push` has set them
        window = self._codes[:, : self._before + frames + self._look_ahead]
        model = self._recogniser.model
        logits = model.read(window[None].to(model.device)).logits[0]
        first, count = (model.config.logits_per_frame * n for n in (self._before, frames))
        tokens = self._recogniser.tokens
        for token in logits[first : first + count].argmax(-1).tolist():
            if token not in (self._last, tokens.blank):
                text = tokens.texts[token]
                self._text += text if self._text else text.lstrip()
            self._last = token
        done = self._before + frames
        self._before = min(self._context, done)
        self._codes = self._codes[:, done - self._before :]
