"""Noise, reverberation and band-limiting on the encoder's input; speed, tone and gain of both."""

import numpy as np
from datasets import Dataset

from vqasr.acoustics import (
    CORNERS_HZ,
    add_noise,
    change_speed,
    convolve,
    from_direct_sound,
    invented_room,
    low_pass,
    shape,
)
from vqasr.data import row_audio
from vqasr.errors import TrainingError
from vqasr.mel import SAMPLING_RATE_HZ
from vqasr.training.config import AugmentConfig

SPEED = (0.85, 1.18)
NOISE_SNR_DB = (3.0, 30.0)
GAIN_DB = (-12.0, 6.0)
CUT_OFF_HZ = (2500.0, 7000.0)
# Tone: the response of other microphones and rooms.
TONE_DB = 9.0
# Half of the noises are recordings, half are stationary with a random spectrum: what most rooms and
# recorders add, and what 400 recordings of rain and dogs hold little of.
STATIONARY = 0.5
SPECTRUM_DB = 30.0
# As many rooms are made up (Polack's model: noise that dies away) as are measured.
INVENTED_ROOMS = 0.5
DECAY_60_DB_S = (0.15, 0.9)
DIRECT_DB = (0.0, 12.0)


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
                self._responses.append(from_direct_sound(samples))
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
            samples = shape(samples, rng.normal(0.0, TONE_DB / 2, len(CORNERS_HZ)))
        if rng.random() < chance.gain:
            gain = 10.0 ** (rng.uniform(*GAIN_DB) / 20.0)
            samples = np.clip(samples * np.float32(gain), -1.0, 1.0)
        heard = samples
        if self._responses and rng.random() < chance.reverberation:
            heard = convolve(heard, self._room(rng))
        if self._noises and rng.random() < chance.noise:
            noise = self._noise(rng)
            start = int(rng.integers(len(noise)))
            heard = add_noise(heard, noise, rng.uniform(*NOISE_SNR_DB), start)
        if rng.random() < chance.band_limit:
            heard = low_pass(heard, rng.uniform(*CUT_OFF_HZ))
        heard = heard.astype(np.float32)
        if chance.shared and rng.random() < chance.shared:
            samples = heard
        return samples, heard

    def _room(self, rng: np.random.Generator) -> np.ndarray:
        if rng.random() >= INVENTED_ROOMS:
            return self._responses[rng.integers(len(self._responses))]
        decay_s = rng.uniform(*DECAY_60_DB_S)
        return invented_room(decay_s, rng.uniform(*DIRECT_DB), rng)

    def _noise(self, rng: np.random.Generator) -> np.ndarray:
        if rng.random() >= STATIONARY:
            return self._noises[rng.integers(len(self._noises))]
        white = rng.standard_normal(4 * SAMPLING_RATE_HZ).astype(np.float32)
        return shape(white, rng.uniform(-SPECTRUM_DB, 0.0, len(CORNERS_HZ)))


def is_held_out(noise_row: int) -> bool:
    """True for every fifth noise: kept out of training, for tests with unheard noise."""
    return noise_row % 5 == 4
