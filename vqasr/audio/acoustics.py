"""Acoustic effects of rooms, recorders and lines on speech, in numpy.

Not torchaudio: training makes its batches in a thread, where torch operations would give OpenMP
more threads than cores and slow the training down (measured: 0.59 s instead of 0.35 s a step).
"""

import numpy as np

from vqasr.grid import SAMPLING_RATE_HZ

# Frequencies at which `shape` takes levels; it interpolates linearly between them.
CORNERS_HZ = (0.0, 150.0, 400.0, 1000.0, 2000.0, 3500.0, 5500.0, 8000.0)


def change_speed(samples: np.ndarray, speed: float) -> np.ndarray:
    """Resample (samples,) float32 to round(samples / speed), which changes the pitch too."""
    length = round(len(samples) / speed)
    if length == len(samples):
        return samples
    spectrum = np.fft.rfft(samples)[: length // 2 + 1]
    return (np.fft.irfft(spectrum, length) * (length / len(samples))).astype(np.float32)


def from_direct_sound(response: np.ndarray) -> np.ndarray:
    """Trim an impulse response to begin at its strongest sample, with an energy of 1."""
    response = response[int(np.argmax(np.abs(response))) :]
    return response / np.sqrt(np.square(response).sum() + 1e-9)


def synthetic_room(decay_s: float, direct_db: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a room's impulse response: direct sound and decaying noise (Polack's model).

    Args:
        decay_s: time in seconds until the noise has decayed by 60 dB.
        direct_db: power of the direct sound relative to the reverberation.
        rng: draws the noise.
    """
    time_s = np.arange(round(decay_s * SAMPLING_RATE_HZ)) / SAMPLING_RATE_HZ
    tail = rng.standard_normal(len(time_s)) * 10.0 ** (-3.0 * time_s / decay_s)
    tail *= 10.0 ** (-direct_db / 20.0) / np.sqrt(np.square(tail).sum())
    tail[0] = 1.0
    return from_direct_sound(tail)


def convolve(samples: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Convolve (samples,) with an impulse response; the length stays the same."""
    size = 1 << (len(samples) + len(response) - 2).bit_length()
    spectrum = np.fft.rfft(samples, size) * np.fft.rfft(response, size)
    return np.fft.irfft(spectrum, size)[: len(samples)].astype(np.float32)


def add_noise(samples: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Add noise, repeated as often as needed, at a signal-to-noise ratio."""
    noise = np.resize(noise, len(samples))
    speech_power = np.square(samples).mean()
    noise_power = np.square(noise).mean() + 1e-12
    snr = 10.0 ** (snr_db / 10.0)
    return samples + noise * np.sqrt(speech_power / (noise_power * snr))


def shape(samples: np.ndarray, levels_db: np.ndarray) -> np.ndarray:
    """Filter with a gain in dB at each of CORNERS_HZ; scale down if samples would exceed 1."""
    spectrum = np.fft.rfft(samples)
    frequency_hz = np.fft.rfftfreq(len(samples), 1.0 / SAMPLING_RATE_HZ)
    gain = 10.0 ** (np.interp(frequency_hz, CORNERS_HZ, levels_db) / 20.0)
    shaped = np.fft.irfft(spectrum * gain, len(samples))
    peak = np.abs(shaped).max(initial=0.0)
    allowed = max(1.0, np.abs(samples).max(initial=0.0))
    return (shaped * min(1.0, allowed / max(peak, 1e-9))).astype(np.float32)
