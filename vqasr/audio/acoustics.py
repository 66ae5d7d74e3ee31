"""What rooms, recorders and lines do to speech; numpy only.

numpy and not torchaudio: training makes its batches in a thread, and torch operations there would
give OpenMP more threads than cores, upon which the training's own threads sleep instead of spin
between operations (measured: 0.59 s a step instead of 0.35 s).
"""

import numpy as np

from vqasr.grid import SAMPLING_RATE_HZ

# Spectra are lines through levels at these corners.
CORNERS_HZ = (0.0, 150.0, 400.0, 1000.0, 2000.0, 3500.0, 5500.0, 8000.0)


def change_speed(samples: np.ndarray, speed: float) -> np.ndarray:
    """(samples,) float32 -> about samples / speed of them, pitch changed too, as on a tape."""
    length = round(len(samples) / speed)
    if length == len(samples):
        return samples
    spectrum = np.fft.rfft(samples)[: length // 2 + 1]
    return (np.fft.irfft(spectrum, length) * (length / len(samples))).astype(np.float32)


def from_direct_sound(response: np.ndarray) -> np.ndarray:
    """Begin at the strongest sample, so that the reverberant speech is not late."""
    response = response[int(np.argmax(np.abs(response))) :]
    return response / np.sqrt(np.square(response).sum() + 1e-9)


def synthetic_room(decay_s: float, direct_db: float, rng: np.random.Generator) -> np.ndarray:
    """An impulse response: direct sound and noise that dies away (Polack's model).

    Args:
        decay_s: until it has died away by 60 dB.
        direct_db: power of the direct sound over that of all that follows.
        rng: draws the noise.
    """
    time_s = np.arange(round(decay_s * SAMPLING_RATE_HZ)) / SAMPLING_RATE_HZ
    tail = rng.standard_normal(len(time_s)) * 10.0 ** (-3.0 * time_s / decay_s)
    tail *= 10.0 ** (-direct_db / 20.0) / np.sqrt(np.square(tail).sum())
    tail[0] = 1.0
    return from_direct_sound(tail)


def convolve(samples: np.ndarray, response: np.ndarray) -> np.ndarray:
    """(samples,) through a room's impulse response, no longer than before."""
    size = 1 << (len(samples) + len(response) - 2).bit_length()
    spectrum = np.fft.rfft(samples, size) * np.fft.rfft(response, size)
    return np.fft.irfft(spectrum, size)[: len(samples)].astype(np.float32)


def add_noise(samples: np.ndarray, noise: np.ndarray, snr_db: float, start: int = 0) -> np.ndarray:
    """Mix noise in, from its sample `start` on and over again, at that ratio of mean powers."""
    noise = np.resize(np.roll(noise, -start), len(samples))
    speech_power = np.square(samples).mean()
    noise_power = np.square(noise).mean() + 1e-12
    snr = 10.0 ** (snr_db / 10.0)
    return samples + noise * np.sqrt(speech_power / (noise_power * snr))


def shape(samples: np.ndarray, levels_db: np.ndarray) -> np.ndarray:
    """Filter to these levels at CORNERS_HZ; no sample exceeds 1 that did not before."""
    spectrum = np.fft.rfft(samples)
    frequency_hz = np.fft.rfftfreq(len(samples), 1.0 / SAMPLING_RATE_HZ)
    gain = 10.0 ** (np.interp(frequency_hz, CORNERS_HZ, levels_db) / 20.0)
    shaped = np.fft.irfft(spectrum * gain, len(samples))
    peak = np.abs(shaped).max(initial=0.0)
    allowed = max(1.0, np.abs(samples).max(initial=0.0))
    return (shaped * min(1.0, allowed / max(peak, 1e-9))).astype(np.float32)


def low_pass(samples: np.ndarray, cut_off_hz: float) -> np.ndarray:
    """Steep low-pass in the frequency domain, as telephones and old codecs have."""
    spectrum = np.fft.rfft(samples)
    frequency_hz = np.fft.rfftfreq(len(samples), 1.0 / SAMPLING_RATE_HZ)
    slope = np.clip((cut_off_hz * 1.05 - frequency_hz) / (cut_off_hz * 0.05), 0.0, 1.0)
    return np.fft.irfft(spectrum * slope, len(samples)).astype(np.float32)
