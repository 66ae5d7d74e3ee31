"""The code prior as a decoder needs it: what follows depends on what was decoded before."""

import sys
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vqasr.entropy.prior import CodePrior, Int, after_stops
from vqasr.entropy.prior_config import WEIGHT_SCALE

KERNELS = "vqasr.entropy.kernels"
COMPILED_FROM_FRAMES = 1500


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


class PriorDecoder:
    """The prior one frame and one codebook at a time, for several chunks in parallel.

    Args:
        prior: the prior.
        n: codebooks in use.
        rows: chunks that are read together.
        frames: in each of them. Few frames are read with numpy, unless numba is loaded already: it
            takes longer to import than to save.
    """

    def __init__(self, prior: CodePrior, n: int, rows: int, frames: int):
        self._prior = prior
        self._modelled = min(n, prior.config.num_modelled)
        worth_numba = frames * rows >= COMPILED_FROM_FRAMES or KERNELS in sys.modules
        network = _CompiledNetwork if worth_numba else _NumpyNetwork
        self._network = network(prior, n, rows)
        self._below = np.tile(prior.tensors["start"].astype(np.int32), (rows, 1))
        self._level = prior.tensors["level"][self._modelled].astype(np.int32)
        self._frame = -1
        self.next_frame()

    def frequencies(self) -> Int:
        """Return those of the next codebook's entries, (rows, codebook_size) int64."""
        j = self._codebook
        if j < self._modelled:
            frequencies = self._network.frequencies(j, self._below)
        else:
            frequencies = self._prior.unmodelled(j, len(self._below))
        if self._prior.config.variable_depth and j > 1:
            return after_stops(frequencies, self._previous)
        return frequencies

    def add(self, codes: Int) -> None:
        """Tell which codes (one a row) the codebook just asked for had."""
        if self._codebook < self._modelled:
            self._below += self._prior.tensors["embedding"][self._codebook, codes]
        self._codebook += 1
        self._previous = codes

    def next_frame(self) -> None:
        """Go on to the first codebook of the next frame."""
        sums = (self._below + self._level) * WEIGHT_SCALE
        self._below = np.zeros_like(self._below)
        self._frame += 1
        self._codebook = 0
        self._previous = np.zeros(len(sums), np.int64)
        self._network.next_frame(self._frame, sums)


class _NumpyNetwork:
    """The prior's network in floats that hold integers, as `CodePrior` computes all frames."""

    def __init__(self, prior: CodePrior, n: int, rows: int):
        self._prior = prior
        self._past = [
            np.zeros((dilation, rows, prior.config.width), np.float32)
            for dilation in prior.config.dilations
        ]

    def next_frame(self, frame: int, sums: npt.NDArray[np.int32]) -> None:
        self._context = self._prior.next_context(self._past, frame, sums.astype(np.float32))

    def frequencies(self, j: int, below: npt.NDArray[np.int32]) -> Int:
        return self._prior.modelled(j, self._context, below.astype(np.float32))


class _CompiledNetwork:
    """The same in the kernels' integers."""

    def __init__(self, prior: CodePrior, n: int, rows: int):
        from vqasr.entropy import kernels

        self._kernels, self._arrays = kernels, PriorArrays.of(prior, n)
        self._past = self._arrays.new_past(rows)
        self._context = np.zeros((rows, prior.config.width), np.int16)
        self._size = prior.config.codebook_size

    def next_frame(self, frame: int, sums: npt.NDArray[np.int32]) -> None:
        arrays = self._arrays
        self._kernels.next_context(
            *arrays.blocks, arrays.dilations, self._past, frame, sums, self._context
        )

    def frequencies(self, j: int, below: npt.NDArray[np.int32]) -> Int:
        found = np.empty((len(below), self._size), np.int64)
        weights = (layers[j] for layers in self._arrays.heads)
        self._kernels.head(*weights, self._arrays.table, self._context, below, found)
        return found


def _native(tensor: npt.NDArray) -> npt.NDArray:
    """In the machine's byte order, which the file's need not be."""
    return tensor.astype(tensor.dtype.newbyteorder("="), copy=False)
