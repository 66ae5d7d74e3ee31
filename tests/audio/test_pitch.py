"""The fundamental frequency: Praat's track on the grid of samples, and the tracker of streams."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vqasr.audio.pitch import fill_pitch, track_pitch
from vqasr.audio.pitch_tracker import (
    LOOKAHEAD_SAMPLES,
    PitchTracker,
    pitch_of,
    track_codes,
)
from vqasr.errors import AudioError
from vqasr.grid import HOP_LENGTH, PITCH_CODES, frames_of


def voice(begin_hz: float, end_hz: float, seconds: float = 1.0) -> np.ndarray:
    """Harmonics of a gliding pitch."""
    hz = np.geomspace(begin_hz, end_hz, round(16_000 * seconds))
    phase = 2 * np.pi * np.cumsum(hz) / 16_000
    return (0.1 * sum(np.cos(k * phase) / k for k in range(1, 12))).astype(np.float32)


def test_praat_on_the_grid() -> None:
    gap = np.zeros(8_000, np.float32)
    track = track_pitch(np.concatenate([gap, voice(200, 200), gap]))
    assert len(track) == 200
    assert not track[:45].any()
    assert not track[155:].any()
    np.testing.assert_allclose(track[55:145], 200, rtol=0.01)
    filled = fill_pitch(track)
    assert filled.min() > 190
    assert track_pitch(gap[:100]).tolist() == []
    assert fill_pitch(np.zeros(3)).tolist() == [150, 150, 150]


@pytest.mark.parametrize(("begin_hz", "end_hz"), [(70, 70), (100, 220), (450, 180), (480, 480)])
def test_a_glide(begin_hz: float, end_hz: float) -> None:
    codes = track_codes(voice(begin_hz, end_hz))
    assert codes.shape == (25,)
    assert (codes > 0).all()
    middle = np.geomspace(begin_hz, end_hz, 51)[1::2]
    cents = 1200 * np.log2(pitch_of(codes) / middle)
    assert np.abs(cents[2:-2]).max() < 60  # half a step is 25


def test_no_voice() -> None:
    rng = np.random.default_rng(0)
    noise = (0.1 * rng.standard_normal(32_000)).astype(np.float32)
    assert not track_codes(np.zeros(16_000, np.float32)).any()
    assert (track_codes(noise) > 0).mean() < 0.1
    quiet = np.concatenate([voice(150, 150), 0.01 * voice(150, 150)])
    codes = track_codes(quiet)
    assert (codes[:24] > 0).all()
    assert not codes[27:].any()


def test_as_praat_does(clips) -> None:
    for clip in clips[:4]:
        samples = clip.samples[: len(clip.samples) // HOP_LENGTH * HOP_LENGTH]
        codes, praat = track_codes(samples), track_pitch(samples).reshape(-1, 4)
        voiced = (praat > 0).all(1)
        assert (codes[voiced] > 0).mean() > 0.95
        both = voiced & (codes > 0)
        middle = np.exp(np.log(np.maximum(praat, 1)).mean(1))
        cents = np.abs(1200 * np.log2(pitch_of(codes) / middle))[both]
        assert np.median(cents) < 25
        assert (cents > 300).mean() < 0.05


@given(st.lists(st.integers(0, 5_000), max_size=8), st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_pieces_do_not_matter(sizes: list[int], seed: int) -> None:
    rng, total = np.random.default_rng(seed), sum(sizes)
    audio = voice(90 + 30 * seed, 200, 3.0)[:total] + 0.01 * rng.standard_normal(total)
    audio = audio.astype(np.float32)
    tracker, got, begin = PitchTracker(), [], 0
    for size in sizes:
        got.append(tracker.push(audio[begin : begin + size]))
        begin += size
        known = max(0, begin - LOOKAHEAD_SAMPLES) // HOP_LENGTH
        assert sum(map(len, got)) == known
    got.append(tracker.finish())
    codes = np.concatenate(got)
    assert len(codes) == frames_of(total)
    assert ((codes >= 0) & (codes < PITCH_CODES)).all()
    assert codes.tolist() == track_codes(audio).tolist()


def test_refused() -> None:
    with pytest.raises(AudioError, match="nan"):
        PitchTracker().push(np.full(640, np.nan, np.float32))
