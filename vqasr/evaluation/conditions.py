"""Other conditions for the same recordings: noise, rooms, telephones."""

import zlib
from collections.abc import Callable
from functools import partial

import numpy as np

from vqasr.audio.acoustics import CORNERS_HZ, add_noise, convolve, shape, synthetic_room
from vqasr.errors import VqasrError
from vqasr.grid import SAMPLING_RATE_HZ

CLEAN = "clean"
NOISE_S = 10
# Falls by 3 dB an octave, as the noise of most places does.
PINK_DB = tuple(-10.0 * np.log10(max(hz, 75.0) / 75.0) for hz in CORNERS_HZ)
DIRECT_DB = 3.0
TELEPHONE_HZ = (300.0, 3400.0)

Condition = Callable[[np.ndarray], np.ndarray]


def make_condition(name: str) -> Condition:
    """What happens to a clip, (samples,) -> (samples,) float32, the same whenever it is asked.

    Args:
        name: "clean"; "noise:10" for stationary pink noise at 10 dB below the speech; "reverb:0.6"
            for a room in which sound takes 0.6 s to die away by 60 dB; "telephone" for 300 to
            3400 Hz. Noise and room are other ones for every clip.

    Raises:
        VqasrError: no such condition.
    """
    kind, _, value = name.partition(":")
    try:
        number = float(value) if value else None
    except ValueError:
        number = float("nan")
    if kind == CLEAN and number is None:
        return lambda samples: samples
    if kind == "telephone" and number is None:
        return _telephone
    if kind == "noise" and number is not None and -20 <= number <= 60:
        return partial(_noisy, number)
    if kind == "reverb" and number is not None and 0.05 <= number <= 5:
        return partial(_reverberant, number)
    raise VqasrError(
        f"unknown condition {name!r}; there are clean, noise:DB (-20 to 60), reverb:SECONDS (0.05 "
        "to 5) and telephone."
    )


def _noisy(snr_db: float, samples: np.ndarray) -> np.ndarray:
    white = _draws(samples).standard_normal(NOISE_S * SAMPLING_RATE_HZ).astype(np.float32)
    return add_noise(samples, shape(white, np.array(PINK_DB)), snr_db).astype(np.float32)


def _reverberant(decay_s: float, samples: np.ndarray) -> np.ndarray:
    return convolve(samples, synthetic_room(decay_s, DIRECT_DB, _draws(samples)))


def _telephone(samples: np.ndarray) -> np.ndarray:
    spectrum = np.fft.rfft(samples)
    frequency_hz = np.fft.rfftfreq(len(samples), 1.0 / SAMPLING_RATE_HZ)
    low, high = TELEPHONE_HZ
    spectrum[(frequency_hz < low) | (frequency_hz > high)] = 0.0
    return np.fft.irfft(spectrum, len(samples)).astype(np.float32)


def _draws(samples: np.ndarray) -> np.random.Generator:
    """The same for the same clip, in whatever order clips come."""
    return np.random.default_rng(zlib.crc32(samples.astype("<f4").tobytes()))
