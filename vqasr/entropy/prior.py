"""The code prior: probabilities of each code, given earlier frames and lower codebooks.

A causal network after WaveNet (van den Oord et al. 2016; here residual blocks with dilated kernels
of two frames) predicts a frame's codes from earlier frames; a small head for each codebook adds the
lower codebooks of the same frame (as in RQ-Transformer, Lee et al. 2022). The range coder needs
identical probabilities in writer and reader, so every number here is an integer. Weights and
activations have 8 bits and sums stay below 2^24: float32 holds them exactly in any order in which
a BLAS adds them, fused or not. numpy computes them, because torch may multiply float32 with fewer
bits where a user or an autocast context allows it.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import safe_open
from safetensors.numpy import save

from vqasr.assets import BUNDLED_PRIORS, resolve
from vqasr.entropy.prior_config import (
    ACTIVATION_SCALE,
    CERTAIN_FREQUENCY,
    HIGHEST,
    LOGIT_STEPS,
    TABLE_SIZE,
    WEIGHT_SCALE,
    CodePriorConfig,
    check_tensors,
)
from vqasr.errors import CodecError, InvalidCodesError
from vqasr.files import replace_file
from vqasr.fingerprint import bytes_fingerprint
from vqasr.grid import STOP

WEIGHTS_FILE = "prior.safetensors"
Float = npt.NDArray[np.float32]
Int = npt.NDArray[np.int64]


class CodePrior:
    """Compute integer frequencies of codes, the same on every machine.

    Args:
        config: sizes.
        tensors: by the names of `CodePriorConfig.shapes`; int8 weights, int32 biases and table.

    Raises:
        CodecError: tensors are missing, have other shapes, or could make a sum inexact.
    """

    def __init__(self, config: CodePriorConfig, tensors: dict[str, npt.NDArray[Any]]):
        self.config = config
        self.tensors = check_tensors(config, tensors)
        self.fingerprint = bytes_fingerprint(
            {name: t.tobytes() for name, t in self.tensors.items()}, config.to_json()
        )
        t = {name: tensor.astype(np.float32) for name, tensor in self.tensors.items()}
        self._embedding, self._start, self._level = t["embedding"], t["start"], t["level"]
        self._table = self.tensors["exp_table"].astype(np.int64)
        self._blocks = [
            _layers(t, f"block.{i}", ("in", "out")) for i in range(len(config.dilations))
        ]
        self._heads = [
            _layers(t, f"head.{j}", ("in", "mid", "out")) for j in range(config.num_modelled)
        ]
        self._fixed = self._table_lookup(t["fixed.bias"])

    @classmethod
    def from_pretrained(cls, name_or_path: str | os.PathLike[str]) -> "CodePrior":
        """Load a prior from a folder, a hub id, or the name of a bundled one.

        Raises:
            CodecError: it is missing, or not a prior.
        """
        try:
            folder = resolve(name_or_path)
            path = Path(folder) / WEIGHTS_FILE
            if not Path(folder).is_dir():
                from huggingface_hub import hf_hub_download  # takes a while to import

                path = Path(hf_hub_download(folder, WEIGHTS_FILE))
            with safe_open(path, "numpy") as file:
                values = json.loads(file.metadata()["config"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            values["dilations"] = tuple(values["dilations"])
            return cls(CodePriorConfig(**values), tensors)
        except Exception as error:  # hub, JSON and safetensors each raise their own
            raise CodecError(
                f"prior {str(name_or_path)!r} cannot be loaded ({error}). Give a folder that "
                f"holds {WEIGHTS_FILE}, a hub id, or {' or '.join(BUNDLED_PRIORS)}."
            ) from error

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write prior.safetensors, with the sizes in its metadata."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        data = save(self.tensors, {"config": self.config.to_json()})
        replace_file(Path(folder) / WEIGHTS_FILE, data)

    def intervals(self, codes: npt.NDArray[np.integer]) -> tuple[Int, Int, Int]:
        """Compute each code's interval for the range coder, all frames at once.

        Args:
            codes: (n, frames) int, with n from 1 to num_quantizers.

        Returns:
            start, frequency and total, each (n, frames) int64.

        Raises:
            InvalidCodesError: shape or range of the codes is wrong.
        """
        self.check(codes)
        n, frames = codes.shape
        below = np.zeros((frames, self.config.width), np.float32)
        modelled = min(n, self.config.num_modelled)
        embedded = [self._embedding[j][codes[j]] for j in range(modelled)]
        inputs = np.concatenate([self._start[None], sum(embedded, start=below)[:-1]])[:frames]

        def earlier(block: int, now: Float) -> Float:
            return np.pad(now, ((self.config.dilations[block], 0), (0, 0)))[:frames]

        context = self.context((inputs + self._level[modelled]) * WEIGHT_SCALE, earlier)
        start, frequency, total = (np.empty((n, frames), np.int64) for _ in range(3))
        for j in range(n):
            weights = self.frequencies(j, context, below)
            if self.config.variable_depth and j > 1:
                weights = after_stops(weights, codes[j - 1])
            ends = np.cumsum(weights, axis=1)
            chosen = np.arange(frames), codes[j]
            total[j], frequency[j] = ends[:, -1], weights[chosen]
            start[j] = ends[chosen] - frequency[j]
            below = below + embedded[j] if j < modelled else below
        return start, frequency, total

    def bits(self, codes: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
        """Return each code's cross-entropy in bits, (n, frames); errors as `intervals`."""
        _, frequency, total = self.intervals(codes)
        return np.log2(total / frequency)

    def check(self, codes: npt.NDArray[np.integer]) -> None:
        """Raise InvalidCodesError unless codes are (n, frames) integers of the codec's range."""
        config = self.config
        shaped = codes.ndim == 2 and 1 <= len(codes) <= config.num_quantizers
        if not shaped or not self.knows(codes):
            raise InvalidCodesError(
                f"codes have shape {codes.shape} and values from {codes.min(initial=0)} to "
                f"{codes.max(initial=0)}; the prior needs (n, frames) with n from 1 to "
                f"{config.num_quantizers} and values from 0 to {config.codebook_size - 1}."
            )

    def knows(self, codes: npt.NDArray[np.integer]) -> bool:
        """Return whether all codes are entries of the codebooks."""
        return codes.size == 0 or bool(0 <= codes.min() <= codes.max() < self.config.codebook_size)

    def context(self, sums: Float, earlier: Callable[[int, Float], Float]) -> Float:
        """Compute the context of frames, (rows, width) activations.

        Args:
            sums: (rows, width), input of the first block.
            earlier: takes a block's number and its inputs (rows, width), and returns its inputs
                `dilation` frames before, zeros before the first frame.
        """
        for block, (first, second) in enumerate(self._blocks):
            now = _rounded(sums, -HIGHEST)
            inner = _rounded(first(np.concatenate([now, earlier(block, now)], axis=1)), 0)
            sums = sums + second(inner)
        return _rounded(sums, -HIGHEST)

    def frequencies(self, j: int, context: Float, below: Float) -> Int:
        """Compute the frequencies of codebook j's entries, without regard to stops.

        Args:
            j: the codebook.
            context: (rows, width) of the frames.
            below: (rows, width) sum of the embeddings of the lower codebooks' codes.

        Returns:
            (rows, codebook_size) int64, all at least 1.
        """
        if j >= len(self._heads):
            return self.fixed_frequencies(j, len(context))
        first, middle, last = self._heads[j]
        inputs = np.concatenate([context, below.clip(-HIGHEST, HIGHEST)], axis=1)
        inner = _rounded(first(inputs), 0)
        inner = _rounded(middle(inner) + inner * WEIGHT_SCALE, 0)
        return self._table_lookup(last(inner))

    def fixed_frequencies(self, j: int, rows: int) -> Int:
        """Return the constant (rows, codebook_size) of a codebook from num_modelled on."""
        row = self._fixed[j - len(self._heads)]
        return np.broadcast_to(row, (rows, len(row)))

    def _table_lookup(self, logits: Float) -> Int:
        """(rows, codebook_size) logits -> frequencies."""
        distance = logits.max(axis=1, keepdims=True) - logits
        distance *= LOGIT_STEPS / (WEIGHT_SCALE * ACTIVATION_SCALE)
        np.minimum(distance, TABLE_SIZE - 1, out=distance)
        return self._table[distance.astype(np.int32)]


def after_stops(frequencies: Int, previous: npt.NDArray[np.integer]) -> Int:
    """Make a stop certain after a stop, from the third codebook on.

    Code 0 of the first codebook is no stop.

    Args:
        frequencies: (rows, codebook_size).
        previous: (rows,) codes of the codebook below.
    """
    stopped = previous == STOP
    if stopped.any():
        frequencies = np.where(stopped[:, None], 1, frequencies)
        frequencies[stopped, STOP] = CERTAIN_FREQUENCY
    return frequencies


class _Layer:
    """weight x activations + bias, exact."""

    def __init__(self, weight: Float, bias: Float):
        self._weight = np.ascontiguousarray(weight.T)
        self._bias = bias

    def __call__(self, inputs: Float) -> Float:
        return inputs @ self._weight + self._bias


def _layers(tensors: dict[str, Float], name: str, parts: tuple[str, ...]) -> list[_Layer]:
    return [_Layer(tensors[f"{name}.{p}.weight"], tensors[f"{name}.{p}.bias"]) for p in parts]


def _rounded(sums: Float, lowest: int) -> Float:
    """Sums to activations, halves rounded up; lowest 0 makes it a ReLU."""
    return np.floor(sums * (1 / WEIGHT_SCALE) + 0.5).clip(lowest, HIGHEST)
