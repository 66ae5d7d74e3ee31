"""Cut the feed-forwards of a trained transformer down to the neurons that matter.

Structured pruning: neurons whose contribution to the output varies least are removed, and their
mean contribution is added to the output's bias. On the bundled CTC model, norms of weights as a
criterion were much worse (README).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


@torch.no_grad()
def narrow(layers: Any, inner: int, run: Callable[[], None]) -> None:
    """Narrow the feed-forwards of Wav2Vec2 layers to at most `inner` neurons.

    Args:
        layers: of the encoder.
        inner: width.
        run: runs the model on typical input.
    """
    sums = [Moments() for _ in layers]
    hooks = [
        layer.feed_forward.intermediate_act_fn.register_forward_hook(own)
        for layer, own in zip(layers, sums, strict=True)
    ]
    run()
    for layer, hook, own in zip(layers, hooks, sums, strict=True):
        hook.remove()
        _narrow(layer.feed_forward, inner, *own.mean_and_deviation())


class Moments:
    """A forward hook that adds up a layer's outputs and their squares, (neurons,) each."""

    def __init__(self) -> None:
        self._count, self._sum, self._squares = 0, torch.zeros(()), torch.zeros(())

    def __call__(self, module: nn.Module, inputs: Any, output: Tensor) -> None:
        flat = output.flatten(0, -2).double()
        self._count += len(flat)
        self._sum, self._squares = self._sum + flat.sum(0), self._squares + flat.square().sum(0)

    def mean_and_deviation(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of each neuron."""
        mean = self._sum / self._count
        variance = (self._squares / self._count - mean.square()).clamp_min(0)
        return mean.float(), variance.sqrt().float()


def _narrow(feed_forward: Any, inner: int, mean: Tensor, deviation: Tensor) -> None:
    into, out = feed_forward.intermediate_dense, feed_forward.output_dense
    strength = deviation * out.weight.norm(dim=0)
    order = strength.argsort(descending=True)
    kept, dropped = order[:inner].sort().values, order[inner:]
    bias = out.bias + out.weight[:, dropped] @ mean[dropped]
    feed_forward.intermediate_dense = nn.Linear(into.in_features, len(kept))
    feed_forward.output_dense = nn.Linear(len(kept), out.out_features)
    feed_forward.intermediate_dense.load_state_dict(
        {"weight": into.weight[kept], "bias": into.bias[kept]}
    )
    feed_forward.output_dense.load_state_dict({"weight": out.weight[:, kept], "bias": bias})
