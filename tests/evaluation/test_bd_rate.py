"""The ratio of bits between two rate curves."""

import bjontegaard
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqasr.evaluation.bd_rate import rate_ratio, ratio_interval

WER = np.array([0.4, 0.2, 0.1, 0.08])
BPS = np.array([250.0, 500.0, 1000.0, 2000.0])


@given(st.floats(0.01, 100))
def test_a_curve_with_all_rates_scaled(times) -> None:
    assert rate_ratio(BPS, WER, times * BPS, WER) == pytest.approx(times)
    assert rate_ratio(times * BPS, WER, BPS, WER) == pytest.approx(1 / times)


@pytest.mark.parametrize("method", ["akima", "pchip"])
def test_bjontegaard_delta_of_a_library(method) -> None:
    """On straight lines every interpolation is the same; elsewhere they differ by a few percent."""
    other_bps, other_wer = np.array([600.0, 1500.0, 3000.0, 4000.0]), [0.35, 0.22, 0.12, 0.09]
    straight = 0.5 - 0.05 * np.log2(other_bps / 100)
    for wer, other, tolerance in (
        (0.45 - 0.05 * np.log2(BPS / 100), straight, 1e-6), (WER, other_wer, 0.1),
    ):  # fmt: skip
        percent = bjontegaard.bd_rate(
            BPS, -np.array(wer), other_bps, -np.array(other), method=method, min_overlap=0.5
        )
        assert rate_ratio(BPS, wer, other_bps, other) == pytest.approx(
            1 + percent / 100, rel=tolerance
        )


def test_only_the_common_range_counts() -> None:
    # The other curve needs twice the bits in the common range, and reaches far lower error rates.
    other_bps, other_wer = 2 * BPS[1:], WER[1:]
    expected = rate_ratio(BPS, WER, other_bps, other_wer)
    assert expected == pytest.approx(2)
    assert rate_ratio(BPS, WER, [*other_bps, 1e6], [*other_wer, 0.001]) == pytest.approx(2, rel=0.3)


def test_curves_that_do_not_meet() -> None:
    assert rate_ratio(BPS, WER, BPS, WER + 1) is None
    assert rate_ratio([500], [0.1], BPS, WER) is None  # one point is not a curve
    draws = np.tile(WER, (10, 1))
    assert ratio_interval(BPS, draws, BPS, draws + 1) is None


def test_points_off_the_pareto_front_are_ignored() -> None:
    assert rate_ratio([*BPS, 1500], [*WER, 0.3], 3 * BPS, WER) == pytest.approx(3)


def test_intervals_hold_the_ratio() -> None:
    rng = np.random.default_rng(0)
    wer = WER + rng.normal(0, 0.004, (500, 4))
    other = WER + rng.normal(0, 0.004, (500, 4))
    low, high = ratio_interval(BPS, wer, 3 * BPS, other)
    assert low < 3 < high
    assert high / low < 1.6
    assert ratio_interval(BPS, wer, BPS, wer) == [1, 1]
