"""Whisper's suppression of tokens, at their places and not by a search of the vocabulary.

transformers compares the whole vocabulary with the suppressed tokens (`torch.isin`) at every step,
which is a fifth of greedy decoding of one utterance on CPU. The scores are the same.
"""

import copy

import torch
from torch import Tensor
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
)


class MaskedTokens(SuppressTokensLogitsProcessor):
    """Never these tokens."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """(rows, tokens so far) and (rows, vocabulary) -> scores."""
        return scores.index_fill(1, self.suppress_tokens, -torch.inf)


class MaskedTokensAtBegin(SuppressTokensAtBeginLogitsProcessor):
    """Not these tokens as the first one."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """As `MaskedTokens`; `set_begin_index` may have moved the beginning."""
        if input_ids.shape[-1] != self.begin_index:
            return scores
        return scores.index_fill(1, self.begin_suppress_tokens, -torch.inf)


def mask_tokens(processors: list[LogitsProcessor]) -> LogitsProcessorList:
    """Both of transformers' processors replaced where they occur; the others as they are."""
    views = {
        SuppressTokensLogitsProcessor: MaskedTokens,
        SuppressTokensAtBeginLogitsProcessor: MaskedTokensAtBegin,
    }
    replaced = LogitsProcessorList()
    for processor in processors:
        if type(processor) in views:
            processor = copy.copy(processor)
            processor.__class__ = views[type(processor)]
        replaced.append(processor)
    return replaced
