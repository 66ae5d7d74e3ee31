"""Fundamental frequency of speech, by Praat."""

import numpy as np

from vqasr.grid import FINE_HOP_LENGTH, LOWEST_PITCH_HZ, SAMPLING_RATE_HZ

HIGHEST_PITCH_HZ = 500.0
UNKNOWN_PITCH_HZ = 150.0  # of clips without a voice


def track_pitch(clip: np.ndarray) -> np.ndarray:
    """Track the fundamental frequency by Praat's autocorrelation (Boersma 1993).

    Args:
        clip: (samples,) float32 at 16 kHz.

    Returns:
        (samples // 160,) float64 in Hz, value i for the middle of the samples 160 i to 160 i + 159;
        0 where there is no voice. All 0 if the clip is shorter than three periods of 60 Hz.
    """
    import parselmouth

    hops = len(clip) // FINE_HOP_LENGTH
    step_s = FINE_HOP_LENGTH / SAMPLING_RATE_HZ
    try:
        pitch = parselmouth.Sound(clip.astype(np.float64), SAMPLING_RATE_HZ).to_pitch_ac(
            step_s, LOWEST_PITCH_HZ, pitch_ceiling=HIGHEST_PITCH_HZ
        )
    except parselmouth.PraatError:
        return np.zeros(hops)
    found: np.ndarray = pitch.selected_array["frequency"]
    # Praat centres its frames in the clip: the nearest one, at most 5 ms away.
    nearest = np.rint(((np.arange(hops) + 0.5) * step_s - pitch.xs()[0]) / step_s).astype(int)
    return found[np.clip(nearest, 0, len(found) - 1)]


def fill_pitch(pitch_hz: np.ndarray) -> np.ndarray:
    """Fill the gaps of a track (hops,) in Hz by straight lines of its logarithm."""
    voiced = np.flatnonzero(pitch_hz)
    if not len(voiced):
        return np.full_like(pitch_hz, UNKNOWN_PITCH_HZ)
    filled: np.ndarray = np.exp(
        np.interp(np.arange(len(pitch_hz)), voiced, np.log(pitch_hz[voiced]))
    )
    return filled
