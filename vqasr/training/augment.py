"""Noise, reverberation and band-limiting on the encoder's input; speed, tone and gain of both."""

import numpy as np
from datasets import Dataset

from vqasr.data import row_audio
from vqasr.errors import TrainingError
from vqasr.mel import SAMPLING_RATE_HZ
from vqasr.training.config import AugmentConfig

SPEED = (0.85, 1.18)
NOISE_SNR_DB = (3.0, 30.0)
GAIN_DB = (-12.0, 6.0)
CUT_OFF_HZ = (2500.0, 7000.0)
# Tone: the response of other microphones and rooms, a line through random levels at these corners.
CORNERS_HZ = (0.0, 150.0, 400.0, 1000.0, 2000.0, 3500.0, 5500.0, 8000.0)
TONE_DB = 9.0
# Half of the noises are recordings, half are stationary with a random spectrum: what most rooms and
# recorders add, and what 400 recordings of rain and dogs hold little of.
STATIONARY = 0.5
SPECTRUM_DB = 30.0
# As many rooms are made up (Polack's model: noise that dies away) as are measured.
INVENTED_ROOMS = 0.5
DECAY_60_DB_S = (0.15, 0.9)


class Augment:
    """Makes (target, heard) of an utterance.

    Args:
        config: how often.
        noise: rows with audio and kind, or None.
    """

    def __init__(self, config: AugmentConfig, noise: Dataset | None):
        self.config = config
        self._noises: list[np.ndarray] = []
        self._responses: list[np.ndarray] = []
        if noise is not None and "kind" not in noise.column_names:
            raise TrainingError(
                f"the noise data have no column kind (rir or noise); there are "
                f"{noise.column_names}."
            )
        for i, row in enumerate(noise or []):
            samples = row_audio(row)
            if row["kind"] == "rir":
                self._responses.append(_from_direct_sound(samples))
            elif not is_held_out(i) and np.square(samples).mean() > 1e-9:
                self._noises.append(samples)

    def __call__(
        self, samples: np.ndarray, rng: np.random.Generator, room: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """(samples,) float32 -> target and heard, both (samples,) float32.

        Speed, tone and gain change both: they belong to the clip, not to the damage.

        Args:
            samples: what was recorded.
            rng: decides.
            room: samples that a slower version may have; None for any number.
        """
        chance = self.config
        if chance.speed and rng.random() < chance.speed:
            slowest = SPEED[0] if room is None else max(SPEED[0], len(samples) / room)
            samples = change_speed(samples, rng.uniform(min(slowest, SPEED[1]), SPEED[1]))[:room]
        if chance.tone and rng.random() < chance.tone:
            samples = _shape(samples, rng.normal(0.0, TONE_DB / 2, len(CORNERS_HZ)))
        if rng.random() < chance.gain:
            gain = 10.0 ** (rng.uniform(*GAIN_DB) / 20.0)
            samples = np.clip(samples * np.float32(gain), -1.0, 1.0)
        heard = samples
        if self._responses and rng.random() < chance.reverberation:
            heard = _convolve(heard, self._room(rng))
        if self._noises and rng.random() < chance.noise:
            heard = _add_noise(heard, self._noise(rng), rng)
        if rng.random() < chance.band_limit:
            heard = _low_pass(heard, rng.uniform(*CUT_OFF_HZ))
        return samples, heard.astype(np.float32)

    def _room(self, rng: np.random.Generator) -> np.ndarray:
        if rng.random() >= INVENTED_ROOMS:
            return self._responses[rng.integers(len(self._responses))]
        decay_s = rng.uniform(*DECAY_60_DB_S)
        time_s = np.arange(round(decay_s * SAMPLING_RATE_HZ)) / SAMPLING_RATE_HZ
        tail = rng.standard_normal(len(time_s)) * 10.0 ** (-3.0 * time_s / decay_s)
        # Direct sound and all that follows: 0 to 12 dB between them.
        tail *= 10.0 ** (-rng.uniform(0.0, 12.0) / 20.0) / np.sqrt(np.square(tail).sum())
        tail[0] = 1.0
        return _from_direct_sound(tail)

    def _noise(self, rng: np.random.Generator) -> np.ndarray:
        if rng.random() >= STATIONARY:
            return self._noises[rng.integers(len(self._noises))]
        white = rng.standard_normal(4 * SAMPLING_RATE_HZ).astype(np.float32)
        return _shape(white, rng.uniform(-SPECTRUM_DB, 0.0, len(CORNERS_HZ)))


def is_held_out(noise_row: int) -> bool:
    """True for every fifth noise: kept out of training, for tests with unheard noise."""
    return noise_row % 5 == 4


def change_speed(samples: np.ndarray, speed: float) -> np.ndarray:
    """(samples,) float32 -> about samples / speed of them, pitch changed too, as on a tape."""
    length = round(len(samples) / speed)
    if length == len(samples):
        return samples
    spectrum = np.fft.rfft(samples)[: length // 2 + 1]
    return (np.fft.irfft(spectrum, length) * (length / len(samples))).astype(np.float32)


def _from_direct_sound(response: np.ndarray) -> np.ndarray:
    """Begin at the strongest sample, so that the reverberant speech is not late."""
    response = response[int(np.argmax(np.abs(response))) :]
    return response / np.sqrt(np.square(response).sum() + 1e-9)


def _convolve(samples: np.ndarray, response: np.ndarray) -> np.ndarray:
    # numpy and not torchaudio: batches are made in a thread, and torch operations there would give
    # OpenMP more threads than cores, upon which the training's own threads sleep instead of spin
    # between operations (measured: 0.59 s a step instead of 0.35 s).
    size = 1 << (len(samples) + len(response) - 2).bit_length()
    spectrum = np.fft.rfft(samples, size) * np.fft.rfft(response, size)
    return np.fft.irfft(spectrum, size)[: len(samples)].astype(np.float32)


def _add_noise(samples: np.ndarray, noise: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    start = int(rng.integers(len(noise)))
    noise = np.resize(np.roll(noise, -start), len(samples))
    speech_power = np.square(samples).mean()
    noise_power = np.square(noise).mean() + 1e-12
    snr = 10.0 ** (rng.uniform(*NOISE_SNR_DB) / 10.0)
    return samples + noise * np.sqrt(speech_power / (noise_power * snr))


def _shape(samples: np.ndarray, levels_db: np.ndarray) -> np.ndarray:
    """Filter to these levels at CORNERS_HZ; no sample exceeds 1 that did not before."""
    spectrum = np.fft.rfft(samples)
    frequency_hz = np.fft.rfftfreq(len(samples), 1.0 / SAMPLING_RATE_HZ)
    gain = 10.0 ** (np.interp(frequency_hz, CORNERS_HZ, levels_db) / 20.0)
    shaped = np.fft.irfft(spectrum * gain, len(samples))
    peak = np.abs(shaped).max(initial=0.0)
    allowed = max(1.0, np.abs(samples).max(initial=0.0))
    return (shaped * min(1.0, allowed / max(peak, 1e-9))).astype(np.float32)


def _low_pass(samples: np.ndarray, cut_off_hz: float) -> np.ndarray:
    """Steep low-pass in the frequency domain, as telephones and old codecs have."""
    spectrum = np.fft.rfft(samples)
    frequency_hz = np.fft.rfftfreq(len(samples), 1.0 / SAMPLING_RATE_HZ)
    slope = np.clip((cut_off_hz * 1.05 - frequency_hz) / (cut_off_hz * 0.05), 0.0, 1.0)
    return np.fft.irfft(spectrum * slope, len(samples)).astype(np.float32)
