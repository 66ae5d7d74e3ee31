"""Resampling takes bounded memory and keeps the duration, at every rate."""

import tracemalloc

import numpy as np
import pytest

from vqasr.audio.files import to_mono_16_khz
from vqasr.audio.resampling import MOST_ENTRIES, near_ratio, resample
from vqasr.errors import AudioError


def test_every_rate_has_a_near_ratio() -> None:
    for rate_hz in [*range(4_000, 768_001, 997), 47_999, 767_999, 44_099, 22_051, 16_001, 4_001]:
        ratio = near_ratio(rate_hz, 16_000)
        assert ratio.numerator * ratio.denominator <= MOST_ENTRIES
        assert abs(ratio * 16_000 / rate_hz - 1) < 2.6e-4


@pytest.mark.parametrize("rate_hz", [4_000, 4_001, 11_025, 15_999, 44_101, 47_999, 767_999])
def test_odd_rates(rate_hz) -> None:
    time_s = np.arange(rate_hz) / rate_hz
    tracemalloc.start()
    tone = resample(0.5 * np.sin(2 * np.pi * 1000 * time_s), rate_hz, 16_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100e6
    assert len(tone) == 16_000
    assert np.argmax(np.abs(np.fft.rfft(tone))) == 1000


@pytest.mark.parametrize("rate_hz", [15_996, 16_001, 47_999])
def test_odd_rates_keep_the_time(rate_hz) -> None:
    clicks = np.zeros(100 * rate_hz)
    clicks[rate_hz // 2 :: rate_hz] = 1.0
    found = resample(clicks, rate_hz, 16_000).reshape(100, 16_000).argmax(axis=1)
    assert np.abs(found - 8_000).max() <= 1


@pytest.mark.parametrize(
    "rate_hz",
    [0, -16_000, 3_999, 768_001, 16_000.5, float("nan"), float("inf"), "16 kHz", None, True],
)
def test_rates_that_are_refused(rate_hz) -> None:
    with pytest.raises(AudioError, match="sampling rate"):
        to_mono_16_khz(np.zeros(100, np.float32), rate_hz)


def test_whole_numbers_of_other_types() -> None:
    for rate_hz in (8_000.0, np.int32(8_000), np.float64(8_000)):
        assert len(to_mono_16_khz(np.zeros(100, np.float32), rate_hz)) == 200
