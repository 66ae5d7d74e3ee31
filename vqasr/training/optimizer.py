"""The optimizers of the gradient stages."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from vqasr.errors import TrainingError
from vqasr.training.precision import fast_dtype

# Narrower matrices are no maps between features (depthwise kernels, one row per codebook).
NARROWEST = 16
# Jordan's quintic Newton-Schulz iteration.
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


def finite(value: float, name: str, step: int) -> float:
    """Return the value; TrainingError where it is NaN or infinite."""
    if not math.isfinite(value):
        raise TrainingError(
            f"{name} is {value} at step {step}. Lower the learning rate and start again from the "
            "last checkpoint."
        )
    return value


def adamw(parameters: list[nn.Parameter], learning_rate: float) -> Optimizer:
    """AdamW as all stages use it."""
    return AdamW(parameters, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)


class Muon(Optimizer):
    """Muon (Jordan 2024), scaled to AdamW's step size as in arXiv 2502.16982.

    As torch.optim.Muon, which iterates in bfloat16 on every machine: 12.5 s a step on two AVX2
    cores instead of 0.3 s. Matrices of one shape are multiplied together.
    """

    def __init__(self, matrices: list[nn.Parameter], lr: float, weight_decay: float):
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": 0.95})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    by_shape.setdefault(matrix.shape, []).append(matrix)
            for shape, matrices in by_shape.items():
                updates = torch.stack([self._nesterov(m, group["momentum"]) for m in matrices])
                step = group["lr"] * 0.2 * math.sqrt(max(shape))
                for matrix, update in zip(matrices, orthogonal(updates), strict=True):
                    matrix.mul_(1.0 - group["lr"] * group["weight_decay"])
                    matrix.sub_(update, alpha=step)

    def _nesterov(self, matrix: nn.Parameter, momentum: float) -> Tensor:
        state, gradient = self.state[matrix], matrix.grad
        assert gradient is not None  # for the type checker; `step` has looked
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        state["momentum_buffer"].lerp_(gradient, 1.0 - momentum)
        return gradient.lerp(state["momentum_buffer"], momentum)


def orthogonal(matrices: Tensor) -> Tensor:
    """(count, rows, columns) -> the same, all singular values near 1 (0.7 to 1.2)."""
    a, b, c = _NEWTON_SCHULZ
    wide = matrices.to(fast_dtype(matrices.device))
    if wide.shape[1] > wide.shape[2]:
        wide = wide.mT
    wide = wide / wide.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for _ in range(_ITERATIONS):
        gram = wide @ wide.mT
        wide = torch.baddbmm(wide, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    if matrices.shape[1] > matrices.shape[2]:
        wide = wide.mT
    return wide.to(matrices.dtype)


class MuonAndAdamW:
    """Muon for the matrices, AdamW for everything else.

    To step loop and checkpoints the two look like one optimizer.
    """

    def __init__(self, parameters: list[nn.Parameter], learning_rate: float):
        matrices = [p for p in parameters if p.ndim == 2 and min(p.shape) >= NARROWEST]
        known = set(map(id, matrices))
        rest = [p for p in parameters if id(p) not in known]
        muon = Muon(matrices, lr=learning_rate, weight_decay=0.01)
        self._parts: list[Optimizer] = [muon, adamw(rest, learning_rate)]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Those of both."""
        return [group for part in self._parts for group in part.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self._parts:
            part.zero_grad(set_to_none)

    def step(self) -> None:
        for part in self._parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """As an optimizer's; the second part's parameters are numbered after the first's."""
        state: dict[int, dict[str, Tensor]] = {}
        for part, offset in zip(self._parts, self._offsets(), strict=True):
            saved = part.state_dict()["state"]
            state |= {offset + index: values for index, values in saved.items()}
        return {"state": state, "param_groups": self.param_groups}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Takes what `state_dict` gave; the settings stay those of this object."""
        for part, offset in zip(self._parts, self._offsets(), strict=True):
            count = sum(len(group["params"]) for group in part.param_groups)
            state = {
                index - offset: values
                for index, values in saved["state"].items()
                if offset <= index < offset + count
            }
            part.load_state_dict(
                {"state": state, "param_groups": part.state_dict()["param_groups"]}
            )

    def _offsets(self) -> list[int]:
        return [0, sum(len(group["params"]) for group in self._parts[0].param_groups)]
