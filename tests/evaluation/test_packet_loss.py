"""Losses of chunks: the stated share, in bursts of the stated length."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vqasr.errors import VqasrError
from vqasr.evaluation.packet_loss import ChunkLoss

COUNT = 200_000


def bursts(lost: np.ndarray) -> np.ndarray:
    """Lengths of the runs of lost chunks."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], lost.astype(int), [0]])))
    return edges[1::2] - edges[::2]


@settings(max_examples=15, deadline=None)
@given(percent=st.floats(2, 40), burst=st.floats(1.5, 12), seed=st.integers(0, 99))
def test_share_and_bursts(percent: float, burst: float, seed: int) -> None:
    loss = ChunkLoss(percent, burst)
    lost = loss.draw(COUNT, np.random.default_rng(seed))
    # The mean of bursts that remember their length: its deviation grows with it.
    assert lost.mean() == pytest.approx(percent / 100, rel=0.1 + 0.02 * burst)
    assert bursts(lost).mean() == pytest.approx(burst, rel=0.1)


def test_independent_losses() -> None:
    lost = ChunkLoss(20).draw(COUNT, np.random.default_rng(0))
    assert lost.mean() == pytest.approx(0.2, rel=0.02)
    assert bursts(lost).mean() == pytest.approx(1 / 0.8, rel=0.02)
    copied = ChunkLoss(20, copies=1).draw(COUNT, np.random.default_rng(0))
    assert copied.mean() == pytest.approx(0.04, rel=0.05)
    assert len(ChunkLoss(20, copies=3).draw(2, np.random.default_rng(0))) == 2
    assert not ChunkLoss(0, 4).draw(9, np.random.default_rng(0)).any()
    assert ChunkLoss(100, 4).draw(9, np.random.default_rng(0)).all()


@pytest.mark.parametrize("text", ["10", "10x4", "0", "2.5x1.5", "100", "10+1", "10x4+2"])
def test_names(text: str) -> None:
    assert str(ChunkLoss.parse(text)) == text
    assert ChunkLoss.parse(f" {text}") == ChunkLoss.parse(text)


@pytest.mark.parametrize(
    "text", ["x", "", "-1", "101", "10x", "10x0.5", "nan", "10xnan", "90x2", "10+", "10+x", "10+-1"]
)
def test_impossible_losses(text: str) -> None:
    with pytest.raises(VqasrError, match=r"a loss of"):
        ChunkLoss.parse(text)
