"""Batches of whole utterances of similar length; number i depends on the seed and i alone.

transformers' LengthGroupedSampler makes batches of a number of items; here they have a duration,
and one of a few widths.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from vqasr.codec.mel import clip_mel_power
from vqasr.errors import TrainingError
from vqasr.grid import FRAME_RATE_HZ, HOP_LENGTH, SAMPLING_RATE_HZ
from vqasr.training.augment import Augment, Draws
from vqasr.training.config import NO_CHANGE, TrainConfig
from vqasr.training.recordings import Recordings, to_device

# Batches have a few widths only: on CPU, oneDNN compiles its kernels anew for every shape, which
# with free widths took longer than the training itself.
WIDTHS_S = (3.2, 4.48, 6.4, 9.6, 13.44, 16.64, 20.48, 30.0)
# At least this much silence follows each utterance, from which the adapter learns its end.
TAIL_S = 0.4
TAIL_SAMPLES = round(TAIL_S * SAMPLING_RATE_HZ)
# Lost frames come in chunks of 1 s; at most this share of an item's chunks is lost.
LOST_CHUNK_FRAMES = FRAME_RATE_HZ
MOST_LOST = 0.3
# The share of utterances whose frames all use all codebooks, and the smallest share of refined
# frames in the others.
ALL_REFINED = 0.3
FEWEST_REFINED = 0.1


@dataclass
class Batch:
    """Utterances on the device, padded on the right with zeros."""

    rows: np.ndarray  # (items,) numbers of the recordings
    target: Tensor  # (items, samples) float32, audio for the recognisers and the log-mel decoder
    audio: Tensor  # (items, samples) float32, the encoder's input; noise may follow the utterance
    lengths: Tensor  # (items,) int64 samples of the utterances, on the CPU
    audio_lengths: Tensor  # the same, with the silence behind the utterances
    levels: Tensor  # (items,) int64 codebooks that each item may use, 0 for unquantized
    refined: Tensor  # (items,) float32, see `ResidualVQ.forward`
    lost: Tensor  # (items, frames) bool, True on frames that are lost
    full_stop: np.ndarray  # (items,) bool, texts without punctuation end with a full stop
    share: float  # of the items of the whole batch

    @cached_property
    def power(self) -> Tensor:
        """Mel power (items, 4 x frames, 80) of the target."""
        return clip_mel_power(self.target)

    def sample_mask(self) -> Tensor:
        """Return (items, samples) bool, True on the samples of the utterance."""
        place = torch.arange(self.audio.shape[1], device=self.audio.device)
        return place < self.lengths.to(place.device, non_blocking=True)[:, None]

    def frame_mask(self, lengths: Tensor) -> Tensor:
        """Return (items, frames) bool, True on the frames of the first `lengths` samples."""
        frames = -(-lengths // HOP_LENGTH).to(self.audio.device, non_blocking=True)
        count = self.audio.shape[1] // HOP_LENGTH
        return torch.arange(count, device=self.audio.device) < frames[:, None]


class Batches:
    """Endless batches of recordings, in pieces of at most `piece_s` seconds."""

    def __init__(
        self, recordings: Recordings, augment: Augment, config: TrainConfig, piece_s: float
    ):
        self.recordings, self.device, self.piece_s = recordings, augment.device, piece_s
        self._augment, self._config = augment, config
        lengths_s = recordings.lengths / SAMPLING_RATE_HZ + TAIL_S
        bucket = np.searchsorted(WIDTHS_S, lengths_s - 1e-3)
        self._buckets = [np.flatnonzero(bucket == i) for i in range(len(WIDTHS_S))]
        seconds = np.array([len(b) * w for b, w in zip(self._buckets, WIDTHS_S, strict=True)])
        self._share = seconds / seconds.sum()

    def pieces(self, step: int, piece_s: float | None = None) -> Iterator[Batch]:
        """Yield the pieces of batch number `step`, of another size if it is given."""
        return (piece for _, piece in self.share(step, 0, 1, piece_s))

    def share(
        self, step: int, process: int, processes: int, piece_s: float | None = None
    ) -> Iterator[tuple[int, Batch]]:
        """Yield one process's pieces of batch number `step`, with their numbers.

        Every process gets at least one.

        Raises:
            TrainingError: the batch has fewer utterances than there are processes.
        """
        config = self._config
        rng = np.random.default_rng([config.seed, step])
        bucket, count, size = self._sizes(rng, processes, piece_s)
        width_s, members = WIDTHS_S[bucket], self._buckets[bucket]
        rows = rng.choice(members, count, replace=len(members) < count)
        width = round(width_s * SAMPLING_RATE_HZ)
        lengths = self.recordings.lengths[rows]
        draws = self._augment.draw(rng, lengths, width - TAIL_SAMPLES, config.augment)
        weights = np.array(list(config.levels.values()), float)
        levels = rng.choice(list(config.levels), count, p=weights / weights.sum())
        refined = draw_refined(rng, count)
        lost = lost_frames(rng, count, width // HOP_LENGTH, config.augment.lost)
        full_stop = rng.random(count) < config.augment.full_stop
        noise_seed = int(rng.integers(2**62))
        for number, start in enumerate(range(0, count, size)):
            if number % processes != process:
                continue
            i = slice(start, start + size)
            yield (
                number,
                self._batch(
                    rows[i], draws[i], width, noise_seed + start, levels[i], refined[i], lost[i],
                    full_stop[i], len(rows[i]) / count,
                ),
            )  # fmt: skip

    def count_pieces(self, step: int, processes: int = 1) -> int:
        """Return the number of pieces of batch number `step`."""
        rng = np.random.default_rng([self._config.seed, step])
        _, count, size = self._sizes(rng, processes, None)
        return -(-count // size)

    def _sizes(
        self, rng: np.random.Generator, processes: int, piece_s: float | None
    ) -> tuple[int, int, int]:
        """Draw a bucket; return its number, and the utterances of the batch and of a piece."""
        bucket = int(rng.choice(len(WIDTHS_S), p=self._share))
        count = max(1, round(self._config.data.batch_s / WIDTHS_S[bucket]))
        if count < processes:
            raise TrainingError(
                f"a batch has {count} utterances of {WIDTHS_S[bucket]:g} s, fewer than there are "
                f"processes ({processes}). Raise [data] batch_s to {processes * WIDTHS_S[-1]:g}."
            )
        size = max(1, round((piece_s or self.piece_s) / WIDTHS_S[bucket]))
        return bucket, count, min(size, count // processes)

    def one_pass(self, seed: list[int], batch_s: float, augmented: bool) -> Iterator[Batch]:
        """Yield every recording once, in batches of `batch_s` seconds and similar lengths."""
        chance = self._config.augment if augmented else NO_CHANGE
        for number, (width_s, members) in enumerate(zip(WIDTHS_S, self._buckets, strict=True)):
            width = round(width_s * SAMPLING_RATE_HZ)
            size = max(1, round(batch_s / width_s))
            for start in range(0, len(members), size):
                rows = members[start : start + size]
                rng = np.random.default_rng([*seed, number, start])
                lengths = self.recordings.lengths[rows]
                draws = self._augment.draw(rng, lengths, width - TAIL_SAMPLES, chance)
                lost = np.zeros((len(rows), width // HOP_LENGTH), bool)
                yield self._batch(
                    rows, draws, width, int(rng.integers(2**62)), np.zeros(len(rows), np.int64),
                    draw_refined(rng, len(rows)), lost, np.ones(len(rows), bool), 1.0,
                )  # fmt: skip

    def pass_order(self) -> np.ndarray:
        """Return the numbers of the recordings in the order of `one_pass`."""
        return np.concatenate(self._buckets)

    def pass_lengths(self) -> np.ndarray:
        """Return the samples of each recording in `one_pass`, without augmentation.

        A recording that is hardly longer than a width loses its last samples.
        """
        widths = np.array([round(width_s * SAMPLING_RATE_HZ) for width_s in WIDTHS_S])
        limits = np.repeat(widths - TAIL_SAMPLES, [len(members) for members in self._buckets])
        return np.minimum(self.recordings.lengths[self.pass_order()], limits)

    def fingerprint(self) -> str:
        """Name the recordings and how they are changed."""
        recordings = self.recordings
        digest = hashlib.sha256(recordings.lengths.tobytes())
        digest.update(recordings.pcm[:: 1 + len(recordings.pcm) // 10**6].cpu().numpy().tobytes())
        return f"{digest.hexdigest()[:12]} {self._config.augment}"

    def _batch(
        self, rows: np.ndarray, draws: Draws, width: int, seed: int, levels: np.ndarray,
        refined: np.ndarray, lost: np.ndarray, full_stop: np.ndarray, share: float,
    ) -> Batch:  # fmt: skip
        target, audio = self._augment(self.recordings, rows, draws, width, seed)
        lengths = torch.from_numpy(draws.lengths)
        audio_lengths = (lengths + torch.from_numpy(draws.silence)).clamp_max(width)
        return Batch(
            rows, target, audio, lengths, audio_lengths, to_device(levels, self.device),
            to_device(refined, self.device), to_device(lost, self.device), full_stop, share,
        )  # fmt: skip


def draw_refined(rng: np.random.Generator, count: int) -> np.ndarray:
    """Draw the shares of refined frames of `count` utterances, 1 for all."""
    share = FEWEST_REFINED + (1.0 - FEWEST_REFINED) * rng.random(count)
    return np.where(rng.random(count) < ALL_REFINED, 1.0, share)


def lost_frames(rng: np.random.Generator, items: int, frames: int, chance: float) -> np.ndarray:
    """Draw (items, frames) bool, True in the lost chunks; `chance` is the share of lossy items."""
    chunks = -(-frames // LOST_CHUNK_FRAMES)
    share = MOST_LOST * rng.random((items, 1)) * (rng.random((items, 1)) < chance)
    lost = rng.random((items, chunks)) < share
    return np.repeat(lost, LOST_CHUNK_FRAMES, axis=1)[:, :frames]
