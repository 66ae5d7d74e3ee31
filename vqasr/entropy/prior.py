"""The code prior: how probable is each code, given earlier frames and lower codebooks?

A causal network after WaveNet (van den Oord et al. 2016; here residual blocks with dilated kernels
of two frames) predicts a frame's codes from earlier frames; a small head for each codebook adds the
lower codebooks of the same frame (as in RQ-Transformer, Lee et al. 2022). Its probabilities drive
the range coder, so that writer and reader must have the very same ones: every number here is an
integer. Weights and activations have 8 bits, sums stay below 2^24, and so float32 holds them
exactly in whatever order a BLAS adds them, fused or not. numpy and not torch computes them: torch
may multiply float32 with fewer bits where a user or an autocast context allows it.
"""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import safe_open
from safetensors.numpy import save

from vqasr.assets import resolve_prior
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
    """Integer frequencies of codes; immutable, and the same on every machine.

    Args:
        config: sizes.
        tensors: by the names of `CodePriorConfig.shapes`; int8 weights, int32 biases and table.

    Raises:
        CodecError: tensors are missing, have other shapes, or could make a sum inexact.
    """

    def __init__(self, config: CodePriorConfig, tensors: dict[str, npt.NDArray]):
        self.config = config
        self.tensors = check_tensors(config, tensors)
        self.fingerprint = bytes_fingerprint(
            {name: t.tobytes() for name, t in self.tensors.items()}, config.to_json()
        )
        t = {name: tensor.astype(np.float32) for name, tensor in self.tensors.items()}
        # Embeddings are added up in the scale of sums of weight x activation.
        self._embedding = t["embedding"]
        self._start, self._level = t["start"], t["level"]
        self._table = self.tensors["exp_table"].astype(np.int64)
        self._blocks = [
            _layers(t, f"block.{i}", ("in", "out")) for i in range(len(config.dilations))
        ]
        self._heads = [
            _layers(t, f"head.{j}", ("in", "mid", "out")) for j in range(config.num_modelled)
        ]
        self._fixed = self._weights(t["fixed.bias"])

    def of_codec(self, fingerprint: bytes) -> "CodePrior":
        """The same prior for a codec whose codes mean the same: another encoder, its codebooks."""
        return CodePrior(replace(self.config, codec_fingerprint=fingerprint.hex()), self.tensors)

    @classmethod
    def from_pretrained(cls, name_or_path: str | os.PathLike[str]) -> "CodePrior":
        """Load a prior from a folder, a hub id, or the name of a bundled one.

        Raises:
            CodecError: not there, or no prior.
        """
        folder = resolve_prior(str(name_or_path))
        try:
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
                f"holds {WEIGHTS_FILE}, a hub id, or the name of a bundled prior."
            ) from error

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write prior.safetensors, with the sizes in its metadata."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        replace_file(
            Path(folder) / WEIGHTS_FILE, save(self.tensors, {"config": self.config.to_json()})
        )

    def intervals(self, codes: npt.NDArray[np.integer]) -> tuple[Int, Int, Int]:
        """What the range coder needs for each code, all frames at once.

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
        context = self._context(inputs + self._level[modelled])
        start, frequency, total = (np.empty((n, frames), np.int64) for _ in range(3))
        for j in range(n):
            weights = self._frequencies(j, context, below, codes[j - 1])
            ends = np.cumsum(weights, axis=1)
            total[j] = ends[:, -1]
            frequency[j] = np.take_along_axis(weights, codes[j][:, None], 1)[:, 0]
            start[j] = np.take_along_axis(ends, codes[j][:, None], 1)[:, 0] - frequency[j]
            below = below + embedded[j] if j < modelled else below
        return start, frequency, total

    def bits(self, codes: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
        """Cross-entropy: -log2 of each code's probability, (n, frames); errors as `intervals`."""
        _, frequency, total = self.intervals(codes)
        return np.log2(total / frequency)

    def check(self, codes: npt.NDArray[np.integer]) -> None:
        """InvalidCodesError unless codes are (n, frames) integers of the codec's range."""
        config = self.config
        if codes.ndim != 2 or not 1 <= len(codes) <= config.num_quantizers:
            raise InvalidCodesError(
                f"codes have shape {codes.shape}; the prior knows (n, frames) with n from 1 to "
                f"{config.num_quantizers}."
            )
        if not self.knows(codes):
            raise InvalidCodesError(
                f"codes range from {codes.min()} to {codes.max()}; the prior knows 0 to "
                f"{config.codebook_size - 1}."
            )

    def knows(self, codes: npt.NDArray[np.integer]) -> bool:
        """Whether all codes are entries of the codebooks."""
        return codes.size == 0 or bool(0 <= codes.min() <= codes.max() < self.config.codebook_size)

    def _context(self, inputs: Float) -> Float:
        """(frames, width) embeddings -> (frames, width) activations, causal."""
        sums = inputs * WEIGHT_SCALE
        for dilation, (first, second) in zip(self.config.dilations, self._blocks, strict=True):
            now = _signed(sums)
            before = np.zeros_like(now)
            before[dilation:] = now[:-dilation]
            inner = _positive(first(np.concatenate([now, before], axis=1)))
            sums = sums + second(inner)
        return _signed(sums)

    def next_context(self, past: list[Float], frame: int, sums: Float) -> Float:
        """Compute the context of one frame, (rows, width).

        Args:
            past: (dilation, rows, width) of each block, its last inputs; is updated.
            frame: number of the frame.
            sums: (rows, width), input of the first block.
        """
        for ring, (first, second) in zip(past, self._blocks, strict=True):
            now, slot = _signed(sums), frame % len(ring)
            inner = _positive(first(np.concatenate([now, ring[slot]], axis=1)))
            ring[slot] = now
            sums = sums + second(inner)
        return _signed(sums)

    def _frequencies(
        self, j: int, context: Float, below: Float, previous: npt.NDArray[np.integer]
    ) -> Int:
        """Frequencies of codebook j's entries, (rows, codebook_size) int64, all at least 1.

        context: (rows, width) from earlier frames; below: (rows, width) sum of the embeddings of
        the lower codebooks' codes; previous: (rows,) codes of codebook j - 1,
        read from j = 2 on: that of j = 0 cannot be a stop.
        """
        weights = self.modelled(j, context, below)
        return after_stops(weights, previous) if self.config.variable_depth and j > 1 else weights

    def unmodelled(self, j: int, rows: int) -> Int:
        """(rows, codebook_size) of a codebook from num_modelled on: always the same."""
        row = self._fixed[j - len(self._heads)]
        return np.broadcast_to(row, (rows, len(row)))

    def modelled(self, j: int, context: Float, below: Float) -> Int:
        """Compute (rows, codebook_size) frequencies of codebook j, whatever the one below had."""
        if j >= len(self._heads):
            return self.unmodelled(j, len(context))
        first, middle, last = self._heads[j]
        inner = _positive(first(np.concatenate([context, below.clip(-HIGHEST, HIGHEST)], axis=1)))
        inner = _positive(middle(inner) + inner * WEIGHT_SCALE)
        return self._weights(last(inner))

    def _weights(self, logits: Float) -> Int:
        """(rows, codebook_size) logits -> frequencies."""
        distance = logits.max(axis=1, keepdims=True) - logits
        distance *= LOGIT_STEPS / (WEIGHT_SCALE * ACTIVATION_SCALE)
        np.minimum(distance, TABLE_SIZE - 1, out=distance)
        return self._table[distance.astype(np.int32)]


def after_stops(weights: Int, previous: npt.NDArray[np.integer]) -> Int:
    """Frequencies (rows, codebook_size) where the codebook below had these codes (rows,).

    With variable depth a stop follows a stop for certain, from the third codebook on: code 0 of the
    first one is no stop.
    """
    stopped = previous == STOP
    if stopped.any():
        weights = np.where(stopped[:, None], 1, weights)
        weights[stopped, STOP] = CERTAIN_FREQUENCY
    return weights


class _Layer:
    """weight x activations + bias, exact."""

    def __init__(self, weight: Float, bias: Float):
        self._weight = np.ascontiguousarray(weight.T)
        self._bias = bias

    def __call__(self, inputs: Float) -> Float:
        return inputs @ self._weight + self._bias


def _layers(tensors: dict[str, Float], name: str, parts: tuple[str, ...]) -> list[_Layer]:
    return [_Layer(tensors[f"{name}.{p}.weight"], tensors[f"{name}.{p}.bias"]) for p in parts]


def _signed(sums: Float) -> Float:
    """Sums to activations of -127..127, halves rounded up."""
    return np.floor(sums * (1 / WEIGHT_SCALE) + 0.5).clip(-HIGHEST, HIGHEST)


def _positive(sums: Float) -> Float:
    """Sums to activations of 0..127: ReLU, halves rounded up."""
    return np.floor(sums * (1 / WEIGHT_SCALE) + 0.5).clip(0, HIGHEST)
