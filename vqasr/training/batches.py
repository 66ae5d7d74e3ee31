"""Batches of whole utterances of similar length, in an order that depends on the seed alone."""

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from vqasr.data import row_audio
from vqasr.mel import SAMPLING_RATE_HZ
from vqasr.training.augment import Augment
from vqasr.training.config import DataConfig

# Batches come in a few widths only: on CPU, oneDNN compiles its kernels anew for every shape, which
# with free widths took longer than the training itself.
WIDTHS_S = (3.2, 4.48, 6.4, 9.6, 13.44, 16.64, 20.48, 30.0)
# At least this much silence follows each utterance: the adapter learns how an end sounds.
TAIL_S = 0.4


@dataclass
class Batch:
    """Utterances, padded on the right with zeros.

    Attributes:
        clean: (batch, samples) float32, what the recogniser hears.
        heard: (batch, samples) float32, what the encoder hears.
        lengths: (batch,) int64 samples.
        texts: transcripts; empty where there is none or the utterance was cropped.
    """

    clean: Tensor
    heard: Tensor
    lengths: Tensor
    texts: list[str]

    @property
    def sample_mask(self) -> Tensor:
        """(batch, samples) bool, True on real samples."""
        positions = torch.arange(self.heard.shape[1], device=self.heard.device)
        return positions[None] < self.lengths[:, None]

    def to(self, device: torch.device) -> "Batch":
        return Batch(
            self.clean.to(device), self.heard.to(device), self.lengths.to(device), self.texts
        )


class Batches:
    """Endless batches; number i is the same in every run with the same seed.

    Decoded audio is kept in memory as int16 (115 MB an hour), because decoding Opus would take a
    good part of a training step.
    """

    def __init__(self, data: Dataset, config: DataConfig, augment: Augment, seed: int):
        self._data = data
        self._config = config
        self._augment = augment
        self._seed = seed
        self._pcm: dict[int, np.ndarray] = {}
        seconds = data["seconds"] if "seconds" in data.column_names else None
        self._seconds = np.asarray(
            seconds
            if seconds is not None
            else [len(self._read(i)) / SAMPLING_RATE_HZ for i in range(len(data))]
        )

    def from_step(self, first: int) -> Generator[Batch]:
        """Batches first, first + 1, ...; prepared by a thread while the model trains."""
        ready: queue.Queue[Batch | BaseException] = queue.Queue(maxsize=3)
        stop = threading.Event()

        def prepare() -> None:
            try:
                for step, indices in self._order():
                    if step < first:
                        continue
                    batch = self._make(step, indices)
                    while not stop.is_set():
                        try:
                            ready.put(batch, timeout=0.2)
                            break
                        except queue.Full:
                            continue
                    if stop.is_set():
                        return
            except BaseException as error:  # handed to the consumer
                ready.put(error)

        thread = threading.Thread(target=prepare, daemon=True)
        thread.start()
        try:
            while True:
                item = ready.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stop.set()

    def _order(self) -> Iterator[tuple[int, list[int]]]:
        lengths_s = np.minimum(self._seconds, self._config.max_utterance_s) + TAIL_S
        widths = np.searchsorted(WIDTHS_S, lengths_s)
        step, epoch = 0, 0
        while True:
            rng = np.random.default_rng([self._seed, epoch])
            batches = []
            for width in np.unique(widths):
                members = rng.permutation(np.flatnonzero(widths == width))
                size = max(1, round(self._config.batch_s / WIDTHS_S[width]))
                # The last batch is filled up from the beginning, so that all have one shape.
                members = np.resize(members, -(-len(members) // size) * size)
                batches += members.reshape(-1, size).tolist()
            for j in rng.permutation(len(batches)):
                yield step, batches[j]
                step += 1
            epoch += 1

    def _make(self, step: int, indices: list[int]) -> Batch:
        rng = np.random.default_rng([self._seed, 1, step])
        column = self._config.text_column
        limit = int(self._config.max_utterance_s * SAMPLING_RATE_HZ)
        texts_of: Callable[[int], Any] = (
            (lambda i: self._data[i][column]) if column in self._data.column_names else lambda i: ""
        )
        pieces, texts = [], []
        for i in indices:
            samples = self._read(i).astype(np.float32) / 32768.0
            text = texts_of(i) or ""
            if len(samples) > limit:
                start = rng.integers(len(samples) - limit)
                samples, text = samples[start : start + limit], ""
            pieces.append(samples)
            texts.append(text)
        longest_s = max(map(len, pieces)) / SAMPLING_RATE_HZ + TAIL_S
        width_s = WIDTHS_S[int(np.searchsorted(WIDTHS_S, longest_s - 1e-3))]
        width = round(width_s * SAMPLING_RATE_HZ)
        room = width - int(TAIL_S * SAMPLING_RATE_HZ)
        pairs = [self._augment(samples, rng, room) for samples in pieces]
        clean, heard = [target for target, _ in pairs], [changed for _, changed in pairs]
        lengths = torch.tensor([len(c) for c in clean])
        return Batch(_pad(clean, width), _pad(heard, width), lengths, texts)

    def _read(self, i: int) -> np.ndarray:
        if i not in self._pcm:
            samples = row_audio(self._data[i])
            self._pcm[i] = np.clip(samples * 32768.0, -32768, 32767).astype(np.int16)
        return self._pcm[i]


def _pad(items: list[np.ndarray], width: int) -> Tensor:
    padded = np.zeros((len(items), width), np.float32)
    for row, item in zip(padded, items, strict=True):
        row[: len(item)] = item
    return torch.from_numpy(padded)
