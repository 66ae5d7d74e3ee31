"""Training data in windows that fit into memory, one after the other, for data that do not."""

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset

from vqasr.data.shards import AUDIO, ShardedData, read_pieces
from vqasr.training.config import DataConfig
from vqasr.training.recordings import Recordings

CPU = torch.device("cpu")


class Windows:
    """Recordings of a few shards at a time; the next ones are decoded meanwhile.

    Which shards a window holds depends on the seed and its number alone, so that a resumed run sees
    the same. Each shard comes once in an epoch.

    Args:
        config: data set, and sizes of shards and windows.
        seed: of the order of the shards, another one in each epoch.
        steps: of the training, after which no window is decoded.

    Raises:
        AudioError: the data set cannot be read, or has no column audio.
    """

    def __init__(self, config: DataConfig, seed: int, steps: int):
        self._config, self._seed, self._steps = config, seed, steps
        self._data = ShardedData.open(config.train, config.train_split, config.shard_rows)
        self._data.check_columns(config.train, [AUDIO])
        self.per_epoch = -(-len(self._data.shards) // config.window_shards)
        self._pool = ThreadPoolExecutor(1)
        self._next: tuple[int, Future[Recordings]] | None = None

    def number(self, step: int) -> int:
        """Return the number of the window of a step."""
        return step // self._config.window_steps

    def shards(self, number: int) -> list[int]:
        """Return the numbers of a window's shards."""
        epoch, place = divmod(number, self.per_epoch)
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._data.shards))
        size = self._config.window_shards
        shards: list[int] = order[place * size : (place + 1) * size].tolist()
        return shards

    def load(self, number: int) -> Recordings:
        """Return the recordings of a window on the CPU, and begin to decode those of the next.

        Raises:
            AudioError, TrainingError: as `read_pieces` and `Recordings.from_rows`.
        """
        if self._next is not None and self._next[0] == number:
            recordings = self._next[1].result()
        else:
            recordings = self._decode(number)
        self._next = None
        if (number + 1) * self._config.window_steps < self._steps:
            self._next = number + 1, self._pool.submit(self._decode, number + 1)
        return recordings

    def _decode(self, number: int) -> Recordings:
        config, data = self._config, self._data
        pieces = [
            piece
            for shard in self.shards(number)
            for piece in read_pieces(data.shards[shard], data.schema, config.train_split)
        ]
        rows = Dataset(pa.concat_tables(pieces))
        return Recordings.from_rows(
            rows, CPU, config.max_utterance_s, config.text_column, show_progress=False
        )
