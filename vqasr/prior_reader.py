"""The code prior as a decoder needs it: what follows depends on what was decoded before."""

import numpy as np
import numpy.typing as npt

from vqasr.code_prior import CodePrior, Int, after_stops
from vqasr.prior_config import WEIGHT_SCALE
from vqasr.prior_kernels import head, next_context


class PriorReader:
    """The prior one frame and one codebook at a time, for several chunks in parallel.

    Args:
        prior: the prior.
        n: codebooks in use.
        rows: chunks that are read together.
    """

    def __init__(self, prior: CodePrior, n: int, rows: int):
        config, t = prior.config, prior.tensors
        self._prior = prior
        self._blocks = [
            np.stack([_native(t[f"block.{i}.{part}"]) for i in range(len(config.dilations))])
            for part in ("in.weight", "in.bias", "out.weight", "out.bias")
        ]
        self._heads = [
            [_native(t[f"head.{j}.{part}.{kind}"]) for part in ("in", "mid", "out")
             for kind in ("weight", "bias")]
            for j in range(min(n, config.num_modelled))
        ]  # fmt: skip
        self._table = t["exp_table"].astype(np.int64)
        self._embedding = t["embedding"].astype(np.int32)
        self._level = t["level"][min(n, config.num_modelled)].astype(np.int32)
        self._dilations = np.array(config.dilations)
        self._past = np.zeros((sum(config.dilations), rows, config.width), np.int16)
        self._context = np.zeros((rows, config.width), np.int16)
        self._below = np.tile(t["start"].astype(np.int32), (rows, 1))
        self._frame = -1
        self.next_frame()

    def frequencies(self) -> Int:
        """Of the next codebook's entries, (rows, codebook_size) int64."""
        j, rows = self._codebook, len(self._context)
        if j < len(self._heads):
            frequencies = np.empty((rows, self._prior.config.codebook_size), np.int64)
            head(*self._heads[j], self._table, self._context, self._below, frequencies)
        else:
            frequencies = self._prior.unmodelled(j, rows)
        if self._prior.config.variable_depth and j > 1:
            return after_stops(frequencies, self._previous)
        return frequencies

    def add(self, codes: Int) -> None:
        """Tell which codes (one a row) the codebook just asked for had."""
        if self._codebook < len(self._heads):
            self._below += self._embedding[self._codebook, codes]
        self._codebook += 1
        self._previous = codes

    def next_frame(self) -> None:
        """Go on to the first codebook of the next frame."""
        sums = (self._below + self._level) * WEIGHT_SCALE
        self._below = np.zeros_like(self._below)
        self._frame += 1
        self._codebook = 0
        self._previous = np.zeros(len(sums), np.int64)
        next_context(*self._blocks, self._dilations, self._past, self._frame, sums, self._context)


def _native(tensor: npt.NDArray) -> npt.NDArray:
    """In the machine's byte order, which the file's need not be."""
    return tensor.astype(tensor.dtype.newbyteorder("="), copy=False)
