"""Bits per second, counted in every way."""

import numpy as np
import pytest
from prior_helpers import PRIOR, likely_codes
from stream_helpers import coded_bytes

from vqasr.stream.rates import Rates


def test_the_four_rates_of_a_source_that_the_prior_knows() -> None:
    rates = Rates(PRIOR, 25, 640, 4.0)
    clips = [likely_codes(PRIOR, 3, 200, seed) for seed in range(5)]
    for codes in clips:
        data = coded_bytes(codes, 200 * 640, chunk_frames=25)
        speech = np.arange(200) < 50
        rates.add(codes, 200 * 640, len(data), speech)
    summary = rates.summary()
    assert summary["nominal_bps"] == 3 * 4 * 25
    pooled = np.concatenate(clips, axis=1)
    expected = 0.0
    for row in pooled:
        share = np.bincount(row) / row.size
        expected -= (share[share > 0] * np.log2(share[share > 0])).sum() * 25
    assert summary["order0_bps"] == pytest.approx(expected, abs=0.01)
    bits = sum(PRIOR.bits(c[:, i : i + 25]).sum() for c in clips for i in range(0, 200, 25))
    assert summary["prior_bps"] == pytest.approx(bits / 40, abs=0.01)
    container = rates.container_bps()
    assert container["1 s"] == pytest.approx(8 * (17 + 9 * 9) / 8)
    assert container["60 s"] == pytest.approx(8 * 17 / 8)
    # The coder itself costs less than a byte a chunk.
    assert 0 <= summary["coded_bps"] - summary["prior_bps"] - container["1 s"] < 8
    mean = 0.25 * summary["prior_bps_speech"] + 0.75 * summary["prior_bps_pauses"]
    assert mean == pytest.approx(summary["prior_bps"], abs=0.02)


def test_without_prior_and_without_anything() -> None:
    rates = Rates(None, 250, 640, 2.0)
    assert rates.summary()["coded_bps"] == 0.0
    rates.add(np.array([[0, 1, 2, 3]]), 4 * 640, 30)
    summary = rates.summary()
    assert summary["prior_bps"] is None
    assert summary["order0_bps"] == pytest.approx(2 * 25)
    assert summary["coded_bps"] == pytest.approx(240 / 0.16)


def test_nothing_is_spent_after_a_stop() -> None:
    codes = np.array([[5, 5, 0, 5], [6, 0, 7, 7], [8, 0, 0, 8], [9, 0, 0, 0]])
    for variable_depth, spent in ((False, 16), (True, 4 + 2 + 3 + 4)):
        rates = Rates(None, 250, 640, 10.0, variable_depth)
        rates.add(codes, 4 * 640, 30)
        assert rates.summary()["nominal_bps"] == pytest.approx(10 * spent / 0.16)
