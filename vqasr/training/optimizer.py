"""The optimizers of the gradient stages."""

import math

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from vqasr.training.precision import fast_dtype

# Narrower matrices are no maps between features (depthwise kernels, one row per codebook).
NARROWEST = 16
MOMENTUM, WEIGHT_DECAY = 0.95, 0.01
# Jordan's quintic Newton-Schulz iteration.
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


def adamw(parameters: list[nn.Parameter], lr: float, decay: float = WEIGHT_DECAY) -> Optimizer:
    """Make AdamW with the momenta that all stages use."""
    return AdamW([{"params": parameters}], lr=lr, betas=(0.9, 0.98), weight_decay=decay)


def make_optimizer(name: str, parameters: list[nn.Parameter], lr: float) -> Optimizer:
    """Make "muon" or "adamw", as configurations name them."""
    return (Muon if name == "muon" else adamw)(parameters, lr)


def set_rate(optimizer: Optimizer, lr: float) -> None:
    """Set the learning rate of all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = lr


class Muon(Optimizer):
    """Muon (Jordan 2024) for matrices, AdamW for all other parameters.

    Muon is scaled to AdamW's step size as in arXiv 2502.16982. torch.optim.Muon iterates in
    bfloat16 on every machine: 12.5 s a step on two AVX2 cores instead of 0.3 s. Matrices of one
    shape are multiplied together.
    """

    def __init__(self, parameters: list[nn.Parameter], lr: float):
        matrices = [p for p in parameters if p.ndim == 2 and min(p.shape) >= NARROWEST]
        known = set(map(id, matrices))
        self._adamw = adamw([p for p in parameters if id(p) not in known], lr)
        super().__init__([{"params": matrices}, *self._adamw.param_groups], {"lr": lr})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        matrices, *others = self.param_groups
        by_shape: dict[torch.Size, list[nn.Parameter]] = {}
        for matrix in matrices["params"]:
            if matrix.grad is not None:
                by_shape.setdefault(matrix.shape, []).append(matrix)
        for shape, group in by_shape.items():
            updates = orthogonal(torch.stack([self._nesterov(matrix) for matrix in group]))
            step = matrices["lr"] * 0.2 * math.sqrt(max(shape))
            for matrix, update in zip(group, updates, strict=True):
                matrix.mul_(1.0 - matrices["lr"] * WEIGHT_DECAY)
                matrix.sub_(update, alpha=step)
        # Shared, so that checkpoints see one optimizer; `load_state_dict` makes new objects.
        self._adamw.param_groups, self._adamw.state = others, self.state
        self._adamw.step()

    def _nesterov(self, matrix: nn.Parameter) -> Tensor:
        state, gradient = self.state[matrix], matrix.grad
        assert gradient is not None  # for the type checker; `step` has looked
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        state["momentum_buffer"].lerp_(gradient, 1.0 - MOMENTUM)
        return gradient.lerp(state["momentum_buffer"], MOMENTUM)


def orthogonal(matrices: Tensor) -> Tensor:
    """Make the singular values of (count, rows, columns) matrices nearly 1 (0.7 to 1.2)."""
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
