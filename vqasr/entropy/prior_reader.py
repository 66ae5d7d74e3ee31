"""The code prior as a decoder needs it: what follows depends on what was decoded before."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vqasr.entropy.kernels import head, next_context
from vqasr.entropy.prior import CodePrior, Int, after_stops
from vqasr.entropy.prior_config import WEIGHT_SCALE


class PriorArrays(NamedTuple):
    """A prior's weights as its kernels take them, for streams of n codebooks.

    Attributes:
        blocks: weight and bias of a block's two layers, (blocks, ...) each.
        heads: weight and bias of a head's three layers, (codebooks with a head, ...) each.
        table: (TABLE_SIZE,) int64 frequencies.
        embedding: (num_modelled, codebook_size, width) int32.
        start, level: (width,) int32 each.
        dilations: (blocks,) int64.
    """

    blocks: tuple[npt.NDArray, ...]
    heads: tuple[npt.NDArray, ...]
    table: npt.NDArray
    embedding: npt.NDArray
    start: npt.NDArray
    level: npt.NDArray
    dilations: npt.NDArray

    @classmethod
    @lru_cache(maxsize=16)  # every clip and every group of chunks asks for them
    def of(cls, prior: CodePrior, n: int) -> "PriorArrays":
        """Those of a prior, for n codebooks."""
        config, t = prior.config, prior.tensors
        modelled = min(n, config.num_modelled)

        def stacked(name: str, count: int, *parts: str) -> tuple[npt.NDArray, ...]:
            return tuple(
                np.stack([_native(t[f"{name}.{i}.{part}.{kind}"]) for i in range(count)])
                for part in parts
                for kind in ("weight", "bias")
            )

        return cls(
            stacked("block", len(config.dilations), "in", "out"),
            stacked("head", modelled, "in", "mid", "out"),
            t["exp_table"].astype(np.int64),
            t["embedding"].astype(np.int32),
            t["start"].astype(np.int32),
            t["level"][modelled].astype(np.int32),
            np.array(config.dilations),
        )

    def new_past(self, rows: int) -> npt.NDArray:
        """What `next_context` remembers, before the first frame."""
        return np.zeros((self.dilations.sum(), rows, len(self.start)), np.int16)


class PriorReader:
    """The prior one frame and one codebook at a time, for several chunks in parallel.

    Args:
        prior: the prior.
        n: codebooks in use.
        rows: chunks that are read together.
    """

    def __init__(self, prior: CodePrior, n: int, rows: int):
        self._prior = prior
        self._arrays = arrays = PriorArrays.of(prior, n)
        self._modelled = len(arrays.heads[0])
        self._past = arrays.new_past(rows)
        self._context = np.zeros((rows, prior.config.width), np.int16)
        self._below = np.tile(arrays.start, (rows, 1))
        self._frame = -1
        self.next_frame()

    def frequencies(self) -> Int:
        """Of the next codebook's entries, (rows, codebook_size) int64."""
        j, rows = self._codebook, len(self._context)
        if j < self._modelled:
            frequencies = np.empty((rows, self._prior.config.codebook_size), np.int64)
            weights = (layers[j] for layers in self._arrays.heads)
            head(*weights, self._arrays.table, self._context, self._below, frequencies)
        else:
            frequencies = self._prior.unmodelled(j, rows)
        if self._prior.config.variable_depth and j > 1:
            return after_stops(frequencies, self._previous)
        return frequencies

    def add(self, codes: Int) -> None:
        """Tell which codes (one a row) the codebook just asked for had."""
        if self._codebook < self._modelled:
            self._below += self._arrays.embedding[self._codebook, codes]
        self._codebook += 1
        self._previous = codes

    def next_frame(self) -> None:
        """Go on to the first codebook of the next frame."""
        sums = (self._below + self._arrays.level) * WEIGHT_SCALE
        self._below = np.zeros_like(self._below)
        self._frame += 1
        self._codebook = 0
        self._previous = np.zeros(len(sums), np.int64)
        arrays = self._arrays
        next_context(*arrays.blocks, arrays.dilations, self._past, self._frame, sums, self._context)


def _native(tensor: npt.NDArray) -> npt.NDArray:
    """In the machine's byte order, which the file's need not be."""
    return tensor.astype(tensor.dtype.newbyteorder("="), copy=False)
