"""Augment recordings: random changes drawn with numpy and applied with torch on the device.

Filters, rooms and noise are applied in the frequency domain, to all items of a batch at once.
"""

import math
from dataclasses import dataclass, fields
from functools import lru_cache, partial

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from vqasr.audio.acoustics import CORNERS_HZ, from_direct_sound
from vqasr.data.speech import row_audio
from vqasr.errors import TrainingError
from vqasr.grid import SAMPLING_RATE_HZ
from vqasr.training.config import AugmentConfig
from vqasr.training.recordings import PCM_SCALE, Recordings, to_device

SPEED = (0.85, 1.2)
GAIN_DB = (-15.0, 6.0)
NOISE_SNR_DB = (1.0, 28.0)
TONE_DB = 4.5  # standard deviation of a microphone's response at CORNERS_HZ
STATIONARY = 0.45  # share of noises that have a random spectrum; the others are recordings
SPECTRUM_DB = 30.0
SYNTHETIC_ROOMS = 0.5  # share of synthetic rooms (Polack's model: noise that decays)
DECAY_60_DB_S = (0.15, 0.9)
DIRECT_DB = (0.0, 12.0)
ROOM_SAMPLES = 16_384
LOW_PASS_HZ = (2500.0, 7000.0)
HIGH_PASS_HZ = (150.0, 350.0)  # telephone lines cut off low frequencies too
HIGH_PASSED, HIGH_PASSED_BELOW_HZ = 0.4, 4500.0
MOST_SILENCE_S = 1.0
NOISE_S = 30.0

SYNTHETIC, NONE = -1, -2  # instead of the number of a room or noise
UNLIMITED_HZ = 1e9


@dataclass
class Draws:
    """Random changes of a batch: arrays (items,), but (items, corners) for tone and spectrum."""

    speed: np.ndarray  # float64, samples of the recording per sample of the batch
    lengths: np.ndarray  # int64, samples of the utterance at that speed
    tone_db: np.ndarray
    gain_db: np.ndarray
    room: np.ndarray  # number of a measured room, SYNTHETIC or NONE
    decay_s: np.ndarray  # of a synthetic room
    direct_db: np.ndarray
    noise: np.ndarray  # number of a noise, SYNTHETIC (stationary) or NONE
    noise_start: np.ndarray  # first sample of the noise
    snr_db: np.ndarray
    spectrum_db: np.ndarray  # of stationary noise
    low_pass_hz: np.ndarray
    high_pass_hz: np.ndarray
    shared: np.ndarray  # bool, the target gets the encoder's room, noise and band limits too
    silence: np.ndarray  # int64, samples of silence behind the utterance

    def __getitem__(self, items: slice | np.ndarray) -> "Draws":
        return Draws(**{f.name: getattr(self, f.name)[items] for f in fields(self)})


class Augment:
    """Make the target and the encoder's input of utterances.

    `noise` has the columns audio and kind, see `DataConfig`.
    """

    def __init__(self, noise: Dataset | None, device: torch.device):
        self.device = device
        self._to_device = partial(to_device, device=device)
        if noise is not None and "kind" not in noise.column_names:
            raise TrainingError(
                f"the noise data have the columns {noise.column_names}, but not kind. Add it: rir "
                "for room impulse responses, noise for the others."
            )
        rooms, noises = [], []
        for i, row in enumerate(noise or []):
            samples = row_audio(row)
            if row["kind"] == "rir":
                response = from_direct_sound(samples)[:ROOM_SAMPLES]
                rooms.append(np.pad(response, (0, ROOM_SAMPLES - len(response))))
            elif not is_held_out(i) and np.square(samples).mean() > 1e-8:
                noises.append(samples[: round(NOISE_S * SAMPLING_RATE_HZ)])
        self._rooms = self._to_device(np.array(rooms, np.float32).reshape(-1, ROOM_SAMPLES))
        self._noises = Recordings.from_clips(noises, device) if noises else None

    def draw(
        self, rng: np.random.Generator, lengths: np.ndarray, longest: int, chance: AugmentConfig
    ) -> Draws:
        """Draw the changes of recordings with (items,) lengths in samples.

        Recordings that are longer than `longest` samples are made faster.
        """
        n = len(lengths)

        def happens(probability: float) -> np.ndarray:
            return rng.random(n) < probability

        slowest = np.maximum(SPEED[0], lengths / longest)
        drawn = slowest + rng.random(n) * np.maximum(SPEED[1] - slowest, 0.0)
        speed = np.where(happens(chance.speed), drawn, np.maximum(1.0, lengths / longest))
        tone = rng.normal(0.0, TONE_DB, (n, len(CORNERS_HZ))) * happens(chance.tone)[:, None]
        measured = rng.integers(0, max(1, len(self._rooms)), n)
        synthetic = happens(SYNTHETIC_ROOMS) | (len(self._rooms) == 0)
        count = len(self._noises) if self._noises else 0
        noise = rng.integers(0, max(1, count), n)
        noise_lengths = self._noises.lengths[noise] if self._noises else np.ones(n, np.int64)
        stationary = happens(STATIONARY) | (count == 0)
        low = np.where(happens(chance.band_limit), rng.uniform(*LOW_PASS_HZ, n), UNLIMITED_HZ)
        high_passed = happens(HIGH_PASSED) & (low < HIGH_PASSED_BELOW_HZ)
        silence = (rng.random(n) * MOST_SILENCE_S * SAMPLING_RATE_HZ).astype(np.int64)
        return Draws(
            speed=speed,
            lengths=np.minimum(lengths / speed, longest).astype(np.int64),
            tone_db=tone - tone.max(1, keepdims=True).clip(min=0.0),  # amplifies nothing
            gain_db=rng.uniform(*GAIN_DB, n) * happens(chance.gain),
            room=np.where(
                happens(chance.reverberation), np.where(synthetic, SYNTHETIC, measured), NONE
            ),
            decay_s=rng.uniform(*DECAY_60_DB_S, n),
            direct_db=rng.uniform(*DIRECT_DB, n),
            noise=np.where(happens(chance.noise), np.where(stationary, SYNTHETIC, noise), NONE),
            noise_start=rng.integers(0, noise_lengths),
            snr_db=rng.uniform(*NOISE_SNR_DB, n),
            spectrum_db=rng.uniform(-SPECTRUM_DB, 0.0, (n, len(CORNERS_HZ))),
            low_pass_hz=low,
            high_pass_hz=rng.uniform(*HIGH_PASS_HZ, n) * high_passed,
            shared=happens(chance.shared),
            silence=silence * happens(chance.silence),
        )

    @torch.no_grad()
    def __call__(
        self, recordings: Recordings, rows: np.ndarray, draws: Draws, width: int, seed: int
    ) -> tuple[Tensor, Tensor]:
        """Apply drawn changes; return target and encoder input, (items, width) float32 each.

        Args:
            recordings: speech.
            rows: (items,) numbers of the recordings.
            draws: their changes.
            width: samples of each item; zeros follow the utterance and its silence.
            seed: of the noise samples.
        """
        generator = torch.Generator(self.device).manual_seed(seed)
        time = torch.arange(width, device=self.device)
        lengths = self._to_device(draws.lengths)
        inside = time < lengths[:, None]
        samples = _at_speed(
            recordings.pcm,
            self._to_device(recordings.starts[rows]),
            self._to_device(recordings.lengths[rows]),
            torch.from_numpy(draws.speed).to(self.device),
            time,
        )
        size = _fast_length(width + ROOM_SAMPLES)
        spectrum = torch.fft.rfft(samples * inside, size)
        levels_db = self._levels(draws.tone_db, size) + self._to_device(draws.gain_db)[:, None]
        spectrum = spectrum * 10.0 ** (levels_db / 20.0)
        clean = torch.fft.irfft(spectrum, size)[:, :width].clamp(-1.0, 1.0) * inside
        audio = torch.fft.irfft(self._in_rooms(spectrum, draws, generator), size)[:, :width]
        power = (audio.square() * inside).sum(1) / lengths.clamp_min(1)
        audio = audio + self._noise(draws, width, size, power, generator)
        audio = self._band_limited(audio, draws, size).clamp(-1.0, 1.0)
        audio = audio * (time < (lengths + self._to_device(draws.silence))[:, None])
        return torch.where(self._to_device(draws.shared)[:, None], audio, clean), audio

    def _in_rooms(self, spectrum: Tensor, draws: Draws, generator: torch.Generator) -> Tensor:
        items = np.flatnonzero(draws.room != NONE)
        if not len(items):
            return spectrum
        decay_s = self._to_device(draws.decay_s[items])[:, None]
        time_s = torch.arange(ROOM_SAMPLES, device=self.device) / SAMPLING_RATE_HZ
        noise = torch.randn(len(items), ROOM_SAMPLES, generator=generator, device=self.device)
        tail = noise * 10.0 ** (-3.0 * time_s / decay_s) * (time_s < decay_s)
        direct = 10.0 ** (-self._to_device(draws.direct_db[items])[:, None] / 20.0)
        tail = direct * tail / tail.norm(dim=1, keepdim=True)
        tail[:, 0] = 1.0
        response = tail / tail.norm(dim=1, keepdim=True)
        if len(self._rooms):
            number = self._to_device(draws.room[items])[:, None]
            measured = self._rooms[number[:, 0].clamp_min(0)]
            response = torch.where(number >= 0, measured, response)
        where = self._to_device(items)
        size = 2 * (spectrum.shape[1] - 1)
        reverberant = spectrum[where] * torch.fft.rfft(response, size)
        return spectrum.index_copy(0, where, reverberant)

    def _noise(
        self, draws: Draws, width: int, size: int, power: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Noise (items, width) at each item's ratio to the power of its speech."""
        items = np.flatnonzero(draws.noise != NONE)
        total = torch.zeros(len(power), width, device=self.device)
        if not len(items):
            return total
        some = draws[items]
        noise = torch.randn(len(items), width, generator=generator, device=self.device)
        levels_db = self._levels(some.spectrum_db, size)
        spectrum = torch.fft.rfft(noise, size) * 10.0 ** (levels_db / 20.0)
        noise = torch.fft.irfft(spectrum, size)[:, :width]
        if self._noises is not None:
            number = some.noise.clip(0)
            start = self._to_device(self._noises.starts[number])[:, None]
            length = self._to_device(self._noises.lengths[number])[:, None]
            time = torch.arange(width, device=self.device)
            place = start + (self._to_device(some.noise_start)[:, None] + time) % length
            recorded = self._noises.pcm[place].float() / PCM_SCALE
            noise = torch.where(self._to_device(some.noise >= 0)[:, None], recorded, noise)
        where = self._to_device(items)
        snr = 10.0 ** (self._to_device(some.snr_db) / 10.0)
        gain = (power[where] / ((noise.square().mean(1) + 1e-12) * snr)).sqrt()
        return total.index_copy(0, where, noise * gain[:, None])

    def _band_limited(self, audio: Tensor, draws: Draws, size: int) -> Tensor:
        """Apply steep filters, as telephones and old codecs have."""
        items = np.flatnonzero(draws.low_pass_hz < UNLIMITED_HZ)
        if not len(items):
            return audio
        where = self._to_device(items)
        low = self._to_device(draws.low_pass_hz[items])[:, None]
        high = self._to_device(draws.high_pass_hz[items])[:, None]
        frequency_hz = torch.fft.rfftfreq(size, 1.0 / SAMPLING_RATE_HZ, device=self.device)
        passed = ((1.05 * low - frequency_hz) / (0.05 * low)).clamp(0.0, 1.0)
        spectrum = torch.fft.rfft(audio[where], size) * passed * (frequency_hz >= high)
        limited = torch.fft.irfft(spectrum, size)[:, : audio.shape[1]]
        return audio.index_copy(0, where, limited)

    def _levels(self, levels_db: np.ndarray, size: int) -> Tensor:
        """Interpolate (items, corners) levels to (items, frequencies)."""
        return self._to_device(levels_db) @ self._corner_weights(size)

    @lru_cache(maxsize=16)  # noqa: B019 one entry for each width of batches
    def _corner_weights(self, size: int) -> Tensor:
        frequency_hz = np.fft.rfftfreq(size, 1.0 / SAMPLING_RATE_HZ)
        corners = np.eye(len(CORNERS_HZ))
        weights = [np.interp(frequency_hz, CORNERS_HZ, corner) for corner in corners]
        return self._to_device(np.stack(weights))


def _at_speed(pcm: Tensor, starts: Tensor, lengths: Tensor, speed: Tensor, time: Tensor) -> Tensor:
    """Read (items, samples) by cubic interpolation (Catmull and Rom 1974), -1 to 1.

    The last sample of a recording is repeated behind its end.
    """
    position = time.double() * speed[:, None]
    whole = position.floor()
    part = (position - whole).float()
    last = (lengths - 1)[:, None]
    whole = whole.long()

    def sample(offset: int) -> Tensor:
        place = (whole + offset).clamp_min(0).minimum(last)
        return pcm[starts[:, None] + place].float()

    a, b, c, d = (sample(offset) for offset in (-1, 0, 1, 2))
    curve = c - a + part * (2 * a - 5 * b + 4 * c - d + part * (3 * (b - c) + d - a))
    return (b + 0.5 * part * curve) / PCM_SCALE


def _fast_length(samples: int) -> int:
    """Return the next length with small prime factors, for a fast Fourier transform."""
    odd = (1, 3, 5, 9, 15, 25, 27, 45, 75)
    return min(i << max(0, math.ceil(math.log2(samples / i))) for i in odd)


def is_held_out(noise_row: int) -> bool:
    """Return True for every fifth noise, which only tests use."""
    return noise_row % 5 == 4
