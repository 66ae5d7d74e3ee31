"""What training does to recordings: drawn with numpy, computed with torch where the audio is.

Filters, rooms and noise are applied in the frequency domain, to all items of a batch at once.
"""

import math
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from torch import Tensor

from vqasr.audio.acoustics import CORNERS_HZ, from_direct_sound
from vqasr.data.speech import row_audio
from vqasr.errors import TrainingError
from vqasr.grid import SAMPLING_RATE_HZ
from vqasr.training.config import AugmentConfig
from vqasr.training.recordings import PCM_SCALE, Recordings

SPEED = (0.85, 1.2)
GAIN_DB = (-15.0, 6.0)
NOISE_SNR_DB = (1.0, 28.0)
# Tone: the response of other microphones, levels at CORNERS_HZ.
TONE_DB = 4.5
# This share of the noises is stationary with a random spectrum, the others are recordings.
STATIONARY = 0.45
SPECTRUM_DB = 30.0
# This share of the rooms is synthetic (Polack's model: noise that decays), the others are measured.
SYNTHETIC_ROOMS = 0.5
DECAY_60_DB_S = (0.15, 0.9)
DIRECT_DB = (0.0, 12.0)
ROOM_SAMPLES = 16_384
LOW_PASS_HZ = (2500.0, 7000.0)
# Telephone lines cut off low frequencies too.
HIGH_PASS_HZ = (150.0, 350.0)
HIGH_PASSED, HIGH_PASSED_BELOW_HZ = 0.4, 4500.0
MOST_SILENCE_S = 1.0
NOISE_S = 30.0

SYNTHETIC, NONE = -1, -2  # instead of the number of a room or noise
UNLIMITED_HZ = 1e9


@dataclass
class Draws:
    """How each item of a batch is changed; (items,) each but for tone and spectrum.

    Attributes:
        speed: float64, samples of the recording for one sample of the batch.
        lengths: int64, samples of the utterance at that speed.
        tone_db, spectrum_db: (items, corners) levels of tone and of stationary noise.
        gain_db: of the item.
        room: number of a measured room, -1 for a synthetic one, -2 for none.
        decay_s, direct_db: of a synthetic room.
        noise: number of a noise, -1 for a stationary one, -2 for none.
        noise_start: sample to begin with.
        snr_db: of the noise.
        low_pass_hz, high_pass_hz: cut-off frequencies.
        shared: the target is what the encoder hears.
        silence: int64, samples of silence that belong to the recording behind the utterance.
    """

    speed: np.ndarray
    lengths: np.ndarray
    tone_db: np.ndarray
    gain_db: np.ndarray
    room: np.ndarray
    decay_s: np.ndarray
    direct_db: np.ndarray
    noise: np.ndarray
    noise_start: np.ndarray
    snr_db: np.ndarray
    spectrum_db: np.ndarray
    low_pass_hz: np.ndarray
    high_pass_hz: np.ndarray
    shared: np.ndarray
    silence: np.ndarray

    def __getitem__(self, items: slice | np.ndarray) -> "Draws":
        return Draws(**{f.name: getattr(self, f.name)[items] for f in fields(self)})


class Augment:
    """Makes (target, heard) of utterances.

    Args:
        config: how often.
        noise: rows with audio and kind, or None.
        device: where the audio is.
    """

    def __init__(self, config: AugmentConfig, noise: Dataset | None, device: torch.device):
        self.config = config
        self.device = device
        self._noises: Recordings | None = None
        self._rooms = torch.zeros(0, ROOM_SAMPLES, device=device)
        if noise is None:
            return
        if "kind" not in noise.column_names:
            raise TrainingError(
                f"the noise data have no column kind (rir or noise); there are "
                f"{noise.column_names}."
            )
        rooms, noises = [], []
        for i, row in enumerate(noise):
            samples = row_audio(row)
            if row["kind"] == "rir":
                rooms.append(torch.from_numpy(from_direct_sound(samples)[:ROOM_SAMPLES]))
            elif not is_held_out(i) and np.square(samples).mean() > 1e-8:
                noises.append(samples[: round(NOISE_S * SAMPLING_RATE_HZ)])
        if rooms:
            padded = [F.pad(room, (0, ROOM_SAMPLES - len(room))) for room in rooms]
            self._rooms = torch.stack(padded).to(device)
        if noises:
            self._noises = Recordings.of_clips(noises, device)

    def draw(
        self,
        rng: np.random.Generator,
        lengths: np.ndarray,
        room: int,
        config: AugmentConfig | None = None,
    ) -> Draws:
        """Draw the changes of utterances.

        Args:
            rng: decides.
            lengths: (items,) samples of the recordings.
            room: samples that the batch has for each of them; longer ones are made faster.
            config: how often, instead of the one that the object was made with.
        """
        chance, n = config or self.config, len(lengths)

        def happens(probability: float) -> np.ndarray:
            return rng.random(n) < probability

        slowest = np.maximum(SPEED[0], lengths / room)
        drawn = slowest + rng.random(n) * np.maximum(SPEED[1] - slowest, 0.0)
        speed = np.where(happens(chance.speed), drawn, np.maximum(1.0, lengths / room))
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
            lengths=np.minimum(lengths / speed, room).astype(np.int64),
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
        """Target and heard, both (items, width) float32 on the device.

        Args:
            recordings: where the audio is.
            rows: (items,) numbers of the recordings.
            draws: how they are changed.
            width: samples of each item; zeros follow the utterance and its silence.
            seed: of the noise samples.
        """
        device = self.device
        generator = torch.Generator(device).manual_seed(seed)
        time = torch.arange(width, device=device)
        lengths = self._to_device(draws.lengths)
        inside = time < lengths[:, None]
        samples = _at_speed(
            recordings.pcm,
            self._to_device(recordings.starts[rows]),
            self._to_device(recordings.lengths[rows]),
            torch.from_numpy(draws.speed).to(device),
            time,
        )
        size = _fast_length(width + ROOM_SAMPLES)
        spectrum = torch.fft.rfft(samples * inside, size)
        levels = self._levels(draws.tone_db, size) + self._to_device(draws.gain_db)[:, None]
        spectrum = spectrum * _amplitude(levels)
        clean = torch.fft.irfft(spectrum, size)[:, :width].clamp(-1.0, 1.0) * inside
        heard = torch.fft.irfft(self._in_rooms(spectrum, draws, generator), size)[:, :width]
        power = (heard.square() * inside).sum(1) / lengths.clamp_min(1)
        heard = heard + self._noise(draws, width, size, power, generator)
        heard = self._limited(heard, draws, size).clamp(-1.0, 1.0)
        heard = heard * (time < (lengths + self._to_device(draws.silence))[:, None])
        shared = self._to_device(draws.shared)
        return torch.where(shared[:, None], heard, clean), heard

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
            number = self._to_device(draws.room[items])
            response = torch.where(
                (number >= 0)[:, None], self._rooms[number.clamp_min(0)], response
            )
        where = self._to_device(items)
        size = 2 * (spectrum.shape[1] - 1)
        reverberant = spectrum[where] * torch.fft.rfft(response, size)
        return spectrum.index_copy(0, where, reverberant)

    def _noise(
        self, draws: Draws, width: int, size: int, power: Tensor, generator: torch.Generator
    ) -> Tensor:
        """(items, width) noise at each item's ratio to the power of its speech."""
        items = np.flatnonzero(draws.noise != NONE)
        total = torch.zeros(len(power), width, device=self.device)
        if not len(items):
            return total
        some = draws[items]
        noise = torch.randn(len(items), width, generator=generator, device=self.device)
        noise = self._shaped(noise, some.spectrum_db, size)
        if self._noises is not None:
            number = some.noise.clip(0)
            start, length = (
                self._to_device(values[number])[:, None]
                for values in (self._noises.starts, self._noises.lengths)
            )
            time = torch.arange(width, device=self.device)
            place = start + (self._to_device(some.noise_start)[:, None] + time) % length
            recorded = self._noises.pcm[place].float() / PCM_SCALE
            noise = torch.where(self._to_device(some.noise >= 0)[:, None], recorded, noise)
        where = self._to_device(items)
        snr = 10.0 ** (self._to_device(some.snr_db) / 10.0)
        gain = (power[where] / ((noise.square().mean(1) + 1e-12) * snr)).sqrt()
        return total.index_copy(0, where, noise * gain[:, None])

    def _shaped(self, samples: Tensor, levels_db: np.ndarray, size: int) -> Tensor:
        spectrum = torch.fft.rfft(samples, size) * _amplitude(self._levels(levels_db, size))
        return torch.fft.irfft(spectrum, size)[:, : samples.shape[1]]

    def _limited(self, heard: Tensor, draws: Draws, size: int) -> Tensor:
        """Steep filters, as telephones and old codecs have."""
        items = np.flatnonzero(draws.low_pass_hz < UNLIMITED_HZ)
        if not len(items):
            return heard
        where = self._to_device(items)
        low = self._to_device(draws.low_pass_hz[items])[:, None]
        high = self._to_device(draws.high_pass_hz[items])[:, None]
        frequency_hz = torch.fft.rfftfreq(size, 1.0 / SAMPLING_RATE_HZ, device=self.device)
        passed = ((1.05 * low - frequency_hz) / (0.05 * low)).clamp(0.0, 1.0)
        spectrum = torch.fft.rfft(heard[where], size) * passed * (frequency_hz >= high)
        limited = torch.fft.irfft(spectrum, size)[:, : heard.shape[1]]
        return heard.index_copy(0, where, limited)

    def _levels(self, levels_db: np.ndarray, size: int) -> Tensor:
        """(items, corners) levels -> (items, frequencies), lines between the corners."""
        return self._to_device(levels_db) @ self._lines(size)

    @lru_cache(maxsize=16)  # noqa: B019 as many as there are widths of batches
    def _lines(self, size: int) -> Tensor:
        frequency_hz = np.fft.rfftfreq(size, 1.0 / SAMPLING_RATE_HZ)
        corners = np.eye(len(CORNERS_HZ))
        return self._to_device(
            np.stack([np.interp(frequency_hz, CORNERS_HZ, row) for row in corners])
        )

    def _to_device(self, values: np.ndarray) -> Tensor:
        """Integers as they are, floats as float32."""
        kind = np.float32 if values.dtype == np.float64 else values.dtype
        return torch.from_numpy(values.astype(kind)).to(self.device, non_blocking=True)


def _at_speed(pcm: Tensor, starts: Tensor, lengths: Tensor, speed: Tensor, time: Tensor) -> Tensor:
    """Read recordings at other speeds, by cubic interpolation (Catmull and Rom 1974).

    Args:
        pcm: (samples,) int16 of all recordings.
        starts, lengths: (items,) of each recording in them.
        speed: (items,) float64, samples of the recording for each sample read.
        time: (samples,) numbers of the samples to read.

    Returns:
        (items, samples) float32 in -1 to 1; the last sample goes on behind the end.
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


def _amplitude(level_db: Tensor) -> Tensor:
    return 10.0 ** (level_db / 20.0)


def _fast_length(samples: int) -> int:
    """The next length with small factors only: a fast Fourier transform."""
    lengths = []
    for odd in (1, 3, 5, 9, 15, 25, 27, 45, 75):
        power = max(0, math.ceil(math.log2(samples / odd)))
        lengths.append(odd << power)
    return min(lengths)


def is_held_out(noise_row: int) -> bool:
    """True for every fifth noise: kept out of training, for tests with unheard noise."""
    return noise_row % 5 == 4
