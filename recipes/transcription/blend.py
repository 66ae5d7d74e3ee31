"""Blend weights before and after fine-tuning (WiSE-FT, Wortsman et al., arXiv 2109.01903).

Fine-tuning on few speakers helps with these speakers and hurts others. Interpolation with the old
weights keeps most of the gain and removes most of the loss.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)


def blend(
    model: nn.Module, before: dict[str, Tensor], word_error_rate: Callable[[], float]
) -> dict[float, float]:
    """Set the model to the best blend.

    Args:
        model: after training.
        before: `tuned_weights` before training.
        word_error_rate: measures the model with its current weights.

    Returns:
        {share of the trained weights, 0 to 1: word error rate}.
    """
    after = tuned_weights(model)
    rates = {}
    for share in SHARES:
        _set(model, before, after, share)
        rates[share] = word_error_rate()
    # Of equal rates, the largest share.
    _set(model, before, after, min(rates, key=lambda share: (rates[share], -share)))
    return rates


def tuned_weights(model: nn.Module) -> dict[str, Tensor]:
    """Copy all trainable weights."""
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


@torch.no_grad()
def _set(
    model: nn.Module, before: dict[str, Tensor], after: dict[str, Tensor], share: float
) -> None:
    for name, weights in model.named_parameters():
        if name in before:
            weights.copy_(torch.lerp(before[name], after[name], share))
