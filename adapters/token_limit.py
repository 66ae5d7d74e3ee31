"""Limit the length of a transcript to the number of tokens that fit its duration."""

import torch
from torch import Tensor
from transformers import LogitsProcessor

# The longest of 6,690 transcripts of speech had 6 tokens per second and 6 more (2 s, read fast);
# spelled names have more. Timestamps are tokens too.
TOKENS_PER_S = 10.0
MORE_TOKENS = 10


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
