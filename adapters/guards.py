"""Guard against invented text while a transcript is generated: loops, and more than fits."""

import torch
from torch import Tensor
from transformers import LogitsProcessor

# Speech repeats a phrase less often: a loop has as many copies, and at least as many tokens.
COPIES, LOOP_TOKENS = 5, 24
LONGEST_PHRASE = 30
# The longest of 6,690 transcripts of speech had 6 tokens per second and 6 more (2 s, read fast);
# spelled names have more. Timestamps are tokens too.
TOKENS_PER_S = 10.0
MORE_TOKENS = 10


class LoopGuard(LogitsProcessor):
    """Refuse the token that would continue a loop, so that another or the end follows.

    Each row is judged by its own tokens, so the result does not depend on the batch.

    Args:
        timestamp_begin: id of the first timestamp; timestamps count as one token here, because
            those in a loop increase. None without timestamps.
    """

    def __init__(self, timestamp_begin: int | None = None):
        self._timestamp_begin = timestamp_begin
        self._begin = 0

    def set_begin_index(self, begin_index: int) -> None:
        """Set the number of tokens before the transcript; transformers calls it in each window."""
        self._begin = begin_index

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Map ids (rows, tokens) and scores (rows, vocabulary) to scores."""
        ids = input_ids[:, self._begin :]
        if ids.shape[1] < LOOP_TOKENS:
            return scores
        if self._timestamp_begin is not None:
            ids = ids.clamp(max=self._timestamp_begin)
        for period in range(1, LONGEST_PHRASE + 1):
            tokens = max(LOOP_TOKENS, COPIES * period)
            if tokens > ids.shape[1]:
                break
            tail = ids[:, -tokens:]
            loops = (tail[:, period:] == tail[:, :-period]).all(1)
            loops &= tail[:, -period] != self._timestamp_begin
            if bool(loops.any()):
                scores = scores.clone()
                rows = loops.nonzero()[:, 0]
                scores[rows, tail[rows, -period]] = -torch.inf
        return scores


class TokenLimit(LogitsProcessor):
    """End transcripts that are too long for their codes, and leave those without speech empty.

    The encoder calls `restart` for each window, before the decoder's first step.

    Args:
        end: id of the token that ends a transcript.
    """

    def __init__(self, end: int):
        self._end = end
        self._limits: Tensor | None = None
        self._begin: int | None = None

    def restart(self, seconds: Tensor, speech: Tensor) -> None:
        """Start the next window.

        Args:
            seconds: (items,) duration of the codes.
            speech: (items,) bool, whether they hold speech.
        """
        self._begin = None
        self._limits = (MORE_TOKENS + TOKENS_PER_S * seconds).long() * speech

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Map ids (rows, tokens) and scores (rows, vocabulary) to scores."""
        if self._limits is None:
            return scores
        if self._begin is None:
            self._begin = input_ids.shape[1]
        beams = len(input_ids) // len(self._limits)
        limits = self._limits.repeat_interleave(beams)
        over = input_ids.shape[1] - self._begin >= limits
        if not bool(over.any()):
            return scores
        ended = torch.full_like(scores, -torch.inf)
        ended[:, self._end] = 0.0
        return torch.where(over[:, None], ended, scores)
