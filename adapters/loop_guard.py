"""Break loops while a transcript is generated."""

import torch
from torch import Tensor
from transformers import LogitsProcessor

# Speech repeats a phrase less often: a loop has as many copies, and at least as many tokens.
COPIES, LOOP_TOKENS = 5, 24
LONGEST_PHRASE = 30


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
