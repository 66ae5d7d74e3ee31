"""The code prior in training: the integer network in floats, with its rounding.

Every weight and activation is rounded to the values that `CodePrior` has. The gradient ignores the
rounding (straight-through estimator, Bengio et al. 2013).
"""

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqasr.entropy.prior import CodePrior
from vqasr.entropy.prior_config import (
    ACTIVATION_SCALE,
    HIGHEST,
    LARGEST_FREQUENCY,
    LOGIT_STEPS,
    TABLE_SIZE,
    WEIGHT_SCALE,
    CodePriorConfig,
)
from vqasr.grid import STOP

SUM_SCALE = WEIGHT_SCALE * ACTIVATION_SCALE


class _Round(torch.autograd.Function):
    """Round to multiples of 1 / scale between lowest and highest, halves up."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: int, lowest: int, highest: int) -> Tensor:
        steps = torch.floor(x.float() * scale + 0.5)
        ctx.save_for_backward((steps >= lowest) & (steps <= highest))
        return steps.clamp(lowest, highest) / scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (inside,) = ctx.saved_tensors
        return gradient * inside, None, None, None


def _signed(x: Tensor, scale: int = ACTIVATION_SCALE) -> Tensor:
    return _Round.apply(x, scale, -HIGHEST, HIGHEST)


def _positive(x: Tensor) -> Tensor:
    return _Round.apply(x, ACTIVATION_SCALE, 0, HIGHEST)


class _Layer(nn.Module):
    def __init__(self, inputs: int, outputs: int, scale: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * scale / math.sqrt(inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, _signed(self.weight, WEIGHT_SCALE), self.bias).float()


class PriorNetwork(nn.Module):
    """Compute the logits of `CodePrior`, differentiably."""

    def __init__(self, config: CodePriorConfig, dropout: float = 0.0):
        super().__init__()
        self.config = config
        self.dropout = dropout
        n, width, head = config.num_modelled, config.width, config.head_size
        self.embedding = nn.Parameter(torch.randn(n, config.codebook_size, width) * 0.3)
        self.start = nn.Parameter(torch.randn(width) * 0.3)
        self.level = nn.Parameter(torch.randn(n + 1, width) * 0.1)
        self.blocks = nn.ModuleList(
            nn.ModuleDict({"in": _Layer(2 * width, width), "out": _Layer(width, width, 0.3)})
            for _ in config.dilations
        )
        self.heads = nn.ModuleList(
            nn.ModuleDict(
                {"in": _Layer(2 * width, head), "mid": _Layer(head, head),
                 "out": _Layer(head, config.codebook_size, 0.3)}
            )
            for _ in range(n)
        )  # fmt: skip
        self.fixed: Tensor
        self.register_buffer("fixed", torch.zeros(config.num_quantizers - n, config.codebook_size))

    @torch.no_grad()
    def count(self, codes: Tensor) -> None:
        """Set the fixed distributions of the upper codebooks from (num_quantizers, frames)."""
        for j, row in enumerate(self.fixed, self.config.num_modelled):
            values = codes[j]
            if self.config.variable_depth and j > 1:  # a stop after a stop is not predicted
                values = values[codes[j - 1] != STOP]
            counts = torch.bincount(values, minlength=self.config.codebook_size) + 0.5
            row.copy_((counts / counts.mean()).log())

    @torch.no_grad()
    def start_from(self, codebooks: Tensor) -> None:
        """Initialise from (num_modelled, codebook_size, dim): similar codes get similar weights."""
        codebooks = codebooks / codebooks.std(dim=(1, 2), keepdim=True)
        dim = codebooks.shape[2]
        self.embedding.copy_(0.3 * codebooks @ torch.randn(dim, self.config.width) / dim**0.5)
        for head, codebook in zip(self.heads, codebooks, strict=True):
            weight = head["out"].weight  # type: ignore[index]
            weight.copy_(0.03 * codebook @ torch.randn(dim, self.config.head_size) / dim**0.5)

    def forward(self, codes: Tensor, levels: list[int]) -> list[Tensor]:
        """Compute the logits of some of the codebooks.

        Args:
            codes: (batch, n, frames) int64; the batch is read as chunks of n codebooks.
            levels: numbers of the codebooks, each below n and num_modelled.

        Returns:
            (batch, frames, codebook_size) for each of `levels`.
        """
        batch, n, frames = codes.shape
        n = min(n, self.config.num_modelled)
        embedded = [F.embedding(codes[:, j], _signed(self.embedding[j])) for j in range(n)]
        start = _signed(self.start).expand(batch, 1, -1)
        total = torch.stack(embedded).sum(0)
        sums = torch.cat([start, total[:, :-1]], dim=1) + _signed(self.level[n])
        for dilation, block in zip(self.config.dilations, self.blocks, strict=True):
            now = self._drop(_signed(sums))
            before = F.pad(now, (0, 0, dilation, 0))[:, :frames]
            inner = _positive(block["in"](torch.cat([now, before], dim=-1)))  # type: ignore[index]
            sums = sums + block["out"](inner)  # type: ignore[index]
        context = self._drop(_signed(sums))
        below = torch.zeros_like(total)
        logits = {}
        for j in range(n):
            if j in levels:
                logits[j] = self._head(j, context, below)
            below = below + embedded[j]
        return [logits[j] for j in levels]

    def _head(self, j: int, context: Tensor, below: Tensor) -> Tensor:
        head: nn.ModuleDict = self.heads[j]  # type: ignore[assignment]
        inner = _positive(head["in"](torch.cat([context, self._drop(_signed(below))], dim=-1)))
        inner = self._drop(_positive(head["mid"](inner) + inner))
        return head["out"](inner)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)

    @torch.no_grad()
    def to_prior(self) -> CodePrior:
        """Return the integer network; raise CodecError where a sum could become inexact."""
        tensors: dict[str, np.ndarray] = {"exp_table": exp_table()}
        for name in ("embedding", "start", "level"):
            tensors[name] = _integers(getattr(self, name), ACTIVATION_SCALE)
        for kind, modules in (("block", self.blocks), ("head", self.heads)):
            for i, module in enumerate(modules):
                for part, layer in module.items():  # type: ignore[operator]
                    name = f"{kind}.{i}.{part}"
                    tensors[f"{name}.weight"] = _integers(layer.weight, WEIGHT_SCALE)
                    tensors[f"{name}.bias"] = _sums(layer.bias)
        tensors["fixed.bias"] = _sums(self.fixed)
        return CodePrior(self.config, tensors)


def exp_table() -> np.ndarray:
    """Return round(65536 exp(-i / 32)), at least 1; (512,) int32. It ships with the weights."""
    values = LARGEST_FREQUENCY * np.exp(-np.arange(TABLE_SIZE) / LOGIT_STEPS)
    return np.maximum(1, np.round(values)).astype(np.int32)


def _sums(x: Tensor) -> np.ndarray:
    return torch.floor(x.double() * SUM_SCALE + 0.5).to(torch.int32).cpu().numpy()


def _integers(x: Tensor, scale: int) -> np.ndarray:
    steps = torch.floor(x.float() * scale + 0.5).clamp(-HIGHEST, HIGHEST)
    return steps.to(torch.int8).cpu().numpy()
