"""Apply acoustic conditions to recordings: noise, reverberation, telephone band."""

import zlib
from collections.abc import Callable
from functools import partial

import numpy as np

from vqasr.audio.acoustics import CORNERS_HZ, add_noise, convolve, shape, synthetic_room
from vqasr.errors import VqasrError
from vqasr.grid import SAMPLING_RATE_HZ

CLEAN = "clean"
NOISE_S = 10
# Pink: falls by 3 dB per octave, as background noise mostly does.
PINK_DB = tuple(-10.0 * np.log10(max(hz, 75.0) / 75.0) for hz in CORNERS_HZ)
DIRECT_DB = 3.0
TELEPHONE_HZ = (300.0, 3400.0)

Condition = Callable[[np.ndarray], np.ndarray]


def make_condition(name: str) -> Condition:
    """Return a function that changes a clip, (samples,) -> (samples,) float32, deterministically.

    Args:
        name: "clean"; "noise:10" for stationary pink noise at an SNR of 10 dB; "reverb:0.6" for a
            room with a reverberation time (RT60) of 0.6 s; "telephone" for 300 to 3400 Hz. Each
            clip gets its own noise and room.

    Raises:
        VqasrError: there is no such condition.
    """
    if name == CLEAN:
        return lambda samples: samples
    if name == "telephone":
        return _telephone
    kind, _, value = name.partition(":")
    try:
        number = float(value)
    except ValueError:
        number = float("nan")  # is in no range
    if kind == "noise" and -20 <= number <= 60:
        return partial(_noisy, number)
    if kind == "reverb" and 0.05 <= number <= 5:
        return partial(_reverberant, number)
    raise VqasrError(
        f"unknown condition {name!r}. Use clean, noise:DB (-20 to 60), reverb:SECONDS (0.05 to 5) "
        "or telephone."
    )


def _noisy(snr_db: float, samples: np.ndarray) -> np.ndarray:
    white = _generator(samples).standard_normal(NOISE_S * SAMPLING_RATE_HZ).astype(np.float32)
    return add_noise(samples, shape(white, np.array(PINK_DB)), snr_db).astype(np.float32)


def _reverberant(decay_s: float, samples: np.ndarray) -> np.ndarray:
    return convolve(samples, synthetic_room(decay_s, DIRECT_DB, _generator(samples)))


def _telephone(samples: np.ndarray) -> np.ndarray:
    if not len(samples):
        return samples
    spectrum = np.fft.rfft(samples)
    frequency_hz = np.fft.rfftfreq(len(samples), 1.0 / SAMPLING_RATE_HZ)
    low, high = TELEPHONE_HZ
    spectrum[(frequency_hz < low) | (frequency_hz > high)] = 0.0
    return np.fft.irfft(spectrum, len(samples)).astype(np.float32)


def _generator(samples: np.ndarray) -> np.random.Generator:
    """Seed with the clip itself, so that the order of clips does not matter."""
    return np.random.default_rng(zlib.crc32(samples.astype("<f4").tobytes()))
