"""Between the weights before and after fine-tuning (WiSE-FT, Wortsman et al., arXiv 2109.01903).

What was learned from few speakers helps them and hurts others; a step back along the line between
both keeps most of the one and undoes most of the other.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def blend(
    model: nn.Module, before: dict[str, Tensor], word_error_rate: Callable[[], float]
) -> dict[float, float]:
    """Leave the model with the best of five blends.

    Args:
        model: after training.
        before: `tuned_weights` before it.
        word_error_rate: of the model as it is, on dev.

    Returns:
        The word error rate for each share of the training, 0 to 1.
    """
    after = tuned_weights(model)
    found = {}
    for share in SHARES:
        _set(model, before, after, share)
        found[share] = word_error_rate()
    # Of equals the one that was trained most.
    _set(model, before, after, min(found, key=lambda share: (found[share], -share)))
    return found


def tuned_weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all that is trained."""
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


@torch.no_grad()
def _set(
    model: nn.Module, before: dict[str, Tensor], after: dict[str, Tensor], share: float
) -> None:
    for name, weights in model.named_parameters():
        if name in before:
            weights.copy_(torch.lerp(before[name], after[name], share))
