"""Batches of whole utterances of similar length; number i depends on the seed and i alone."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vqasr.grid import HOP_LENGTH, SAMPLING_RATE_HZ
from vqasr.training.augment import Augment, Draws
from vqasr.training.config import NO_CHANGE, TrainConfig
from vqasr.training.recordings import Recordings

# Batches come in a few widths only: on CPU, oneDNN compiles its kernels anew for every shape, which
# with free widths took longer than the training itself.
WIDTHS_S = (3.2, 4.48, 6.4, 9.6, 13.44, 16.64, 20.48, 30.0)
# At least this much silence follows each utterance: the adapter learns how an end sounds.
TAIL_S = 0.4
# A chunk that gets lost: 1 s of frames at 25 Hz; at most this share of an item's chunks.
LOST_CHUNK_FRAMES = 25
MOST_LOST = 0.3
# The share of utterances whose frames all use all codebooks, and the smallest share of refined
# frames in the others.
ALL_REFINED = 0.3
FEWEST_REFINED = 0.1


@dataclass
class Batch:
    """Utterances on the device, padded on the right with zeros.

    Attributes:
        rows: (items,) numbers of the recordings.
        clean: (items, samples) float32, the target.
        heard: (items, samples) float32, the encoder's input; may go on behind the utterance.
        lengths: (items,) int64 samples of the utterances, on the CPU.
        heard_lengths: the same with the silence behind them.
        levels: (items,) int64 codebooks that each item may use, 0 for unquantized.
        refined: (items,) see `ResidualVQ.forward`.
        lost: (items, frames) bool, frames that get lost.
        full_stop: (items,) bool, texts without punctuation end with a full stop.
        share: of the items of the whole batch.
    """

    rows: np.ndarray
    clean: Tensor
    heard: Tensor
    lengths: Tensor
    heard_lengths: Tensor
    levels: Tensor
    refined: Tensor
    lost: Tensor
    full_stop: np.ndarray
    share: float

    def sample_mask(self) -> Tensor:
        """(items, samples) bool, True on the samples of the utterance."""
        place = torch.arange(self.heard.shape[1], device=self.heard.device)
        return place < self.lengths.to(place.device, non_blocking=True)[:, None]

    def frame_mask(self, lengths: Tensor) -> Tensor:
        """(items, frames) bool, True on the frames of the first `lengths` samples."""
        frames = -(-lengths // HOP_LENGTH).to(self.heard.device, non_blocking=True)
        count = self.heard.shape[1] // HOP_LENGTH
        return torch.arange(count, device=self.heard.device) < frames[:, None]


class Batches:
    """Endless batches of recordings.

    Args:
        recordings: speech.
        augment: changes it.
        config: batch_s, levels, seed and augmentation.
        piece_s: seconds of audio in a piece.
    """

    def __init__(
        self, recordings: Recordings, augment: Augment, config: TrainConfig, piece_s: float
    ):
        self.recordings, self.device = recordings, augment.device
        self._augment, self._config = augment, config
        self._piece_s = piece_s
        lengths_s = recordings.lengths / SAMPLING_RATE_HZ + TAIL_S
        bucket = np.searchsorted(WIDTHS_S, lengths_s - 1e-3)
        self._buckets = [np.flatnonzero(bucket == i) for i in range(len(WIDTHS_S))]
        seconds = np.array([len(b) * w for b, w in zip(self._buckets, WIDTHS_S, strict=True)])
        self._share = seconds / seconds.sum()

    def pieces(self, step: int) -> Iterator[Batch]:
        """Yield batch number `step`, in pieces of at most `piece_s`."""
        config = self._config
        rng = np.random.default_rng([config.seed, step])
        bucket = rng.choice(len(WIDTHS_S), p=self._share)
        width_s, members = WIDTHS_S[bucket], self._buckets[bucket]
        count = max(1, round(config.data.batch_s / width_s))
        rows = rng.choice(members, count, replace=len(members) < count)
        width = round(width_s * SAMPLING_RATE_HZ)
        room = width - round(TAIL_S * SAMPLING_RATE_HZ)
        draws = self._augment.draw(rng, self.recordings.lengths[rows], room)
        names = np.array(list(config.levels))
        weights = np.array(list(config.levels.values()), float)
        levels = rng.choice(names, count, p=weights / weights.sum())
        refined = draw_refined(rng, count)
        lost = lost_frames(rng, count, width // HOP_LENGTH, config.augment.lost)
        full_stop = rng.random(count) < config.augment.full_stop
        size = min(count, max(1, round(self._piece_s / width_s)))
        noise_seed = int(rng.integers(2**62))
        for start in range(0, count, size):
            i = slice(start, start + size)
            yield self._piece(
                rows[i], draws[i], width, noise_seed + start, levels[i], refined[i], lost[i],
                full_stop[i], len(rows[i]) / count,
            )  # fmt: skip

    def of_all(self, seed: list[int], batch_s: float, changed: bool) -> Iterator[Batch]:
        """Yield every recording once, in batches of similar lengths.

        Args:
            seed: of the changes.
            batch_s: seconds of audio in a batch.
            changed: by augmentation, or as they are.
        """
        for number, (width_s, members) in enumerate(zip(WIDTHS_S, self._buckets, strict=True)):
            width = round(width_s * SAMPLING_RATE_HZ)
            room = width - round(TAIL_S * SAMPLING_RATE_HZ)
            size = max(1, round(batch_s / width_s))
            for start in range(0, len(members), size):
                rows = members[start : start + size]
                rng = np.random.default_rng([*seed, number, start])
                chance = None if changed else NO_CHANGE
                draws = self._augment.draw(rng, self.recordings.lengths[rows], room, chance)
                none = np.zeros((len(rows), width // HOP_LENGTH), bool)
                yield self._piece(
                    rows, draws, width, int(rng.integers(2**62)), none[:, 0].astype(np.int64),
                    draw_refined(rng, len(rows)), none, ~none[:, 0], 1.0,
                )  # fmt: skip

    def about(self) -> str:
        """Name the recordings and how they are changed."""
        recordings = self.recordings
        digest = hashlib.sha256(recordings.lengths.tobytes())
        digest.update(recordings.pcm[:: 1 + len(recordings.pcm) // 10**6].cpu().numpy().tobytes())
        return f"{digest.hexdigest()[:12]} {self._augment.config}"

    def _piece(
        self, rows: np.ndarray, draws: Draws, width: int, seed: int, levels: np.ndarray,
        refined: np.ndarray, lost: np.ndarray, full_stop: np.ndarray, share: float,
    ) -> Batch:  # fmt: skip
        clean, heard = self._augment(self.recordings, rows, draws, width, seed)
        lengths = torch.from_numpy(draws.lengths)
        silence = torch.from_numpy(draws.silence)

        def to_device(values: np.ndarray) -> Tensor:
            return torch.from_numpy(values).to(heard.device, non_blocking=True)

        return Batch(
            rows, clean, heard, lengths, (lengths + silence).clamp_max(width),
            to_device(levels), to_device(refined.astype(np.float32)), to_device(lost), full_stop,
            share,
        )  # fmt: skip


def draw_refined(rng: np.random.Generator, count: int) -> np.ndarray:
    """Shares of refined frames of `count` utterances, 1 for all."""
    share = FEWEST_REFINED + (1.0 - FEWEST_REFINED) * rng.random(count)
    return np.where(rng.random(count) < ALL_REFINED, 1.0, share)


def lost_frames(rng: np.random.Generator, items: int, frames: int, chance: float) -> np.ndarray:
    """(items, frames) bool: frames of chunks of 1 s that get lost, in this share of the items."""
    chunks = -(-frames // LOST_CHUNK_FRAMES)
    share = MOST_LOST * rng.random((items, 1)) * (rng.random((items, 1)) < chance)
    lost = rng.random((items, chunks)) < share
    return np.repeat(lost, LOST_CHUNK_FRAMES, axis=1)[:, :frames]
