"""The code prior for decoding: one frame and codebook at a time, given the codes so far."""

import sys
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vqasr.entropy.prior import CodePrior, Float, Int, after_stops
from vqasr.entropy.prior_config import WEIGHT_SCALE

KERNELS = "vqasr.entropy.kernels"
COMPILED_FROM_FRAMES = 1500


class PriorArrays(NamedTuple):
    """Hold a prior's weights in the layout of its kernels.

    Attributes:
        blocks: weight and bias of a block's two layers, (blocks, ...) each.
        heads: weight and bias of a head's three layers, (codebooks with a head, ...) each.
        table: (TABLE_SIZE,) int64 frequencies.
        embedding: (num_modelled, codebook_size, width) int32.
        start, level: (width,) int32 each.
        dilations: (blocks,) int64.
    """

    blocks: tuple[npt.NDArray[Any], ...]
    heads: tuple[npt.NDArray[Any], ...]
    table: npt.NDArray[Any]
    embedding: npt.NDArray[Any]
    start: npt.NDArray[Any]
    level: npt.NDArray[Any]
    dilations: npt.NDArray[Any]

    @classmethod
    @lru_cache(maxsize=16)  # made for every clip and every group of chunks
    def of(cls, prior: CodePrior, n: int) -> "PriorArrays":
        """Return the weights of a prior for streams of n codebooks."""
        config, t = prior.config, prior.tensors
        modelled = min(n, config.num_modelled)

        def stacked(name: str, count: int, *parts: str) -> tuple[npt.NDArray[Any], ...]:
            # np.stack also gives the machine's byte order, which the file's need not be.
            return tuple(
                np.stack([t[f"{name}.{i}.{part}.{kind}"] for i in range(count)])
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

    def new_past(self, rows: int) -> npt.NDArray[Any]:
        """Return the state of `next_context` before the first frame."""
        return np.zeros((self.dilations.sum(), rows, len(self.start)), np.int16)


class PriorDecoder:
    """Compute the prior's frequencies step by step, for several chunks in parallel.

    Args:
        prior: the prior.
        n: codebooks in use.
        rows: chunks that are decoded together.
        frames: in each of them. The first few frames of a process are decoded with numpy, unless
            numba is loaded already: importing it would take longer than it saves.
    """

    _frames_so_far = 0  # of all decoders of this process

    def __init__(self, prior: CodePrior, n: int, rows: int, frames: int):
        self._prior = prior
        self._modelled = min(n, prior.config.num_modelled)
        PriorDecoder._frames_so_far += frames * rows
        many = PriorDecoder._frames_so_far >= COMPILED_FROM_FRAMES
        worth_numba = many or KERNELS in sys.modules
        network = _CompiledNetwork if worth_numba else _NumpyNetwork
        self._network = network(prior, n, rows)
        self._below = np.tile(prior.tensors["start"].astype(np.int32), (rows, 1))
        self._level = prior.tensors["level"][self._modelled].astype(np.int32)
        self._frame = -1
        self.next_frame()

    def frequencies(self) -> Int:
        """Return the frequencies of the next codebook's entries, (rows, codebook_size) int64."""
        j = self._codebook
        if j < self._modelled:
            frequencies = self._network.frequencies(j, self._below)
        else:
            frequencies = self._prior.fixed_frequencies(j, len(self._below))
        if self._prior.config.variable_depth and j > 1:
            return after_stops(frequencies, self._previous)
        return frequencies

    def add(self, codes: Int) -> None:
        """Set the (rows,) codes of the current codebook and move to the next one."""
        if self._codebook < self._modelled:
            self._below += self._prior.tensors["embedding"][self._codebook, codes]
        self._codebook += 1
        self._previous = codes

    def next_frame(self) -> None:
        """Move to the first codebook of the next frame."""
        sums = (self._below + self._level) * WEIGHT_SCALE
        self._below = np.zeros_like(self._below)
        self._frame += 1
        self._codebook = 0
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
        def earlier(block: int, now: Float) -> Float:
            slot = frame % len(self._past[block])
            before = self._past[block][slot].copy()
            self._past[block][slot] = now
            return before

        self._context = self._prior.context(sums.astype(np.float32), earlier)

    def frequencies(self, j: int, below: npt.NDArray[np.int32]) -> Int:
        return self._prior.frequencies(j, self._context, below.astype(np.float32))


class _CompiledNetwork:
    """The same in the kernels' integers."""

    def __init__(self, prior: CodePrior, n: int, rows: int):
        from vqasr.entropy import kernels

        self._kernels, self._arrays = kernels, PriorArrays.of(prior, n)
        self._heads = list(zip(*self._arrays.heads, strict=True))
        self._past = self._arrays.new_past(rows)
        self._context = np.zeros((rows, prior.config.width), np.int16)
        self._size = prior.config.codebook_size

    def next_frame(self, frame: int, sums: npt.NDArray[np.int32]) -> None:
        arrays = self._arrays
        self._kernels.next_context(
            *arrays.blocks, arrays.dilations, self._past, frame, sums, self._context
        )

    def frequencies(self, j: int, below: npt.NDArray[np.int32]) -> Int:
        frequencies = np.empty((len(below), self._size), np.int64)
        self._kernels.head(
            *self._heads[j], self._arrays.table, self._context, below, frequencies
        )  # fmt: skip
        return frequencies
