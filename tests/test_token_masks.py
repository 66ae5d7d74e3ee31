"""Suppressing tokens at their places gives transformers' own scores."""

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    SuppressTokensAtBeginLogitsProcessor,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
)

from vqasr.adapters.token_masks import MaskedTokens, mask_tokens

STOCK = [
    SuppressTokensLogitsProcessor([1, 7, 30]),
    SuppressTokensAtBeginLogitsProcessor([2, 29], begin_index=3),
    TemperatureLogitsWarper(0.5),
]


@pytest.mark.parametrize("length", [2, 3, 4])
@pytest.mark.parametrize("rows", [1, 5])
def test_scores_are_those_of_transformers(length: int, rows: int) -> None:
    generator = torch.Generator().manual_seed(length)
    ids = torch.zeros(rows, length, dtype=torch.long)
    scores = torch.randn(rows, 31, generator=generator)
    kept = scores.clone()
    found = mask_tokens(STOCK)(ids, scores)
    assert torch.equal(found, LogitsProcessorList(STOCK)(ids, scores))
    assert torch.equal(scores, kept)


def test_the_beginning_may_move() -> None:
    # generate moves it by the length of a prompt
    stock = SuppressTokensAtBeginLogitsProcessor([2], begin_index=3)
    masked = mask_tokens([stock])
    masked[0].set_begin_index(5)
    stock.set_begin_index(5)
    for length in (3, 5):
        ids, scores = torch.zeros(1, length, dtype=torch.long), torch.zeros(1, 4)
        assert torch.equal(masked(ids, scores), stock(ids, scores))


def test_what_generate_looks_for_is_found() -> None:
    masked = mask_tokens(STOCK)
    assert type(masked[0]) is MaskedTokens
    assert isinstance(masked[0], SuppressTokensLogitsProcessor)
    assert masked[0].suppress_tokens.tolist() == [1, 7, 30]
    assert masked[2].temperature == 0.5
    assert type(STOCK[0]) is SuppressTokensLogitsProcessor
