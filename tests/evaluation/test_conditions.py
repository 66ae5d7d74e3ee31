"""Acoustic conditions: noise, reverberation, telephone band."""

import numpy as np
import pytest

from vqasr.errors import VqasrError
from vqasr.evaluation.conditions import make_condition

NAMES = ["clean", "noise:20", "noise:0", "reverb:0.6", "telephone"]


@pytest.mark.parametrize("name", NAMES)
def test_conditions_are_deterministic(name, clips) -> None:
    samples = clips[0].samples
    changed = make_condition(name)(samples)
    assert changed.shape == samples.shape
    assert changed.dtype == np.float32
    np.testing.assert_array_equal(changed, make_condition(name)(samples))
    assert np.array_equal(changed, samples) == (name == "clean")


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 20.0])
def test_noise_has_the_stated_level(snr_db, clips) -> None:
    samples = clips[0].samples
    noise = make_condition(f"noise:{snr_db}")(samples) - samples
    measured = 10 * np.log10(np.square(samples).mean() / np.square(noise).mean())
    assert measured == pytest.approx(snr_db, abs=0.3)
    other = make_condition(f"noise:{snr_db}")(clips[1].samples) - clips[1].samples
    length = min(len(noise), len(other))
    assert abs(np.corrcoef(noise[:length], other[:length])[0, 1]) < 0.1


def test_an_empty_clip_stays_empty() -> None:
    assert not len(make_condition("telephone")(np.zeros(0, np.float32)))


def test_telephones_pass_300_to_3400_hz(clips) -> None:
    spectrum = np.abs(np.fft.rfft(make_condition("telephone")(clips[0].samples)))
    hz = np.fft.rfftfreq(len(clips[0].samples), 1 / 16_000)
    inside = (hz > 310) & (hz < 3390)
    assert np.square(spectrum[inside]).sum() > 0.99 * np.square(spectrum).sum()


def test_reverberation_decays_after_the_sound() -> None:
    click = np.zeros(16_000, np.float32)
    click[1000] = 0.5
    power = np.square(make_condition("reverb:0.5")(click))
    after = [power[start : start + 1600].mean() for start in (1100, 4000, 7000)]
    assert after[0] > 10 * after[1] > 100 * after[2] > 0


@pytest.mark.parametrize("name", ["rain", "noise", "noise:loud", "noise:99", "reverb:0", "clean:1"])
def test_unknown_conditions(name) -> None:
    with pytest.raises(VqasrError, match="unknown condition"):
        make_condition(name)
