"""The optimizers of the gradient stages."""

from typing import Any

from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer

# Narrower matrices are no maps between features (depthwise kernels, one row per codebook).
NARROWEST = 16


def adamw(parameters: list[nn.Parameter], learning_rate: float) -> Optimizer:
    """AdamW as all stages use it."""
    return AdamW(parameters, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)


class MuonAndAdamW:
    """Muon (Jordan 2024; scaled to AdamW's step size as in arXiv 2502.16982) for the matrices.

    Everything else is AdamW's. To step loop and checkpoints the two look like one optimizer.
    """

    def __init__(self, parameters: list[nn.Parameter], learning_rate: float):
        matrices = [p for p in parameters if p.ndim == 2 and min(p.shape) >= NARROWEST]
        known = set(map(id, matrices))
        rest = [p for p in parameters if id(p) not in known]
        muon = Muon(
            matrices, lr=learning_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
        )  # fmt: skip
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
