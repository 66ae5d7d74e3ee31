"""A bound on the length of a text: what can be spoken in the time that its codes last."""

import torch
from torch import Tensor
from transformers import LogitsProcessor

# Of 6,690 transcripts of speech the longest had 6 tokens a second and 6 more (speech of 2 s, read
# fast); spelled names have more. Timestamps are tokens too.
TOKENS_PER_S = 10.0
MORE_TOKENS = 10


class TokenLimit(LogitsProcessor):
    """End texts that are longer than their codes allow: what cannot be made out can loop.

    The encoder calls `restart` for each window that it reads, before the decoder's first step.

    Args:
        end: token that ends a text.
    """

    def __init__(self, end: int):
        self._end = end
        self._limits: Tensor | None = None
        self._begin: int | None = None

    def restart(self, seconds: Tensor | None) -> None:
        """Take the (items,) seconds of the next window's items; None for no limit."""
        self._begin = None
        self._limits = None if seconds is None else (MORE_TOKENS + TOKENS_PER_S * seconds).long()

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """(rows, tokens so far) and (rows, vocabulary) -> scores."""
        if self._limits is None:
            return scores
        if self._begin is None:
            self._begin = input_ids.shape[1]
        rows = len(input_ids) // len(self._limits)  # several for an item where beams are searched
        limits = self._limits.repeat_interleave(rows)
        over = input_ids.shape[1] - self._begin >= limits
        if not bool(over.any()):
            return scores
        ended = torch.full_like(scores, -torch.inf)
        ended[:, self._end] = 0.0
        return torch.where(over[:, None], ended, scores)
