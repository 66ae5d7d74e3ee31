"""Convolutions that give the same result over a whole clip and chunk by chunk.

Every layer keeps the tail of its input in a `StreamState` and computes only what its right context
allows. Encoding a clip at once is the same call with a fresh state, so batch, single and streaming
share one code path and agree by construction. Nothing pads on the right: the caller appends the
encoder's look-ahead as zeros at the end of the audio. So the frames of a short clip in a padded
batch see exactly what they see alone.

Tensors are (batch, frames, channels), and kernels are written as matrix products and shifted sums:
on CPU that is faster than `nn.Conv1d`, whose oneDNN kernels are made anew for every clip length.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class StreamState:
    """What the layers remember between chunks: the unconsumed tail of each one's input."""

    def __init__(self) -> None:
        self._tails: dict[nn.Module, Tensor] = {}

    def extend(self, layer: nn.Module, x: Tensor, left: int) -> Tensor:
        """Put the layer's tail before `x` (dim 1 is time); at a stream's beginning, zeros."""
        tail = self._tails.get(layer)
        if tail is None:
            tail = x.new_zeros(x.shape[0], left, *x.shape[2:])
        return torch.cat([tail, x], dim=1)

    def keep(self, layer: nn.Module, tail: Tensor) -> None:
        """Remember the layer's unconsumed input for the next chunk."""
        self._tails[layer] = tail


class StreamConv(nn.Module):
    """Convolution over time with `left` frames of past and the rest of the kernel ahead."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, left: int, stride: int = 1
    ):
        super().__init__()
        self.kernel, self.left, self.stride = kernel, left, stride
        self.linear = nn.Linear(kernel * in_channels, out_channels)

    def forward(self, x: Tensor, state: StreamState) -> Tensor:
        """(batch, frames, in_channels) -> (batch, outputs possible so far, out_channels)."""
        buffer = state.extend(self, x, self.left)
        outputs = max(0, (buffer.shape[1] - self.kernel) // self.stride + 1)
        state.keep(self, buffer[:, outputs * self.stride :])
        span = (outputs - 1) * self.stride + 1 if outputs else 0
        taps = [buffer[:, i : i + span : self.stride] for i in range(self.kernel)]
        return self.linear(torch.cat(taps, dim=-1))


class StreamBlock(nn.Module):
    """ConvNeXt block (arXiv 2201.03545) with `right` frames of look-ahead.

    Depthwise convolution, layer norm, two pointwise layers, residual.
    """

    def __init__(self, width: int, expansion: int, kernel: int = 7, right: int = 1):
        super().__init__()
        self.left = kernel - 1 - right
        self.depthwise = nn.Parameter(torch.empty(kernel, width))
        self.norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, expansion * width)
        self.contract = nn.Linear(expansion * width, width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The depthwise kernel alone: its layers have their own."""
        nn.init.normal_(self.depthwise, std=len(self.depthwise) ** -0.5)

    def forward(self, x: Tensor, state: StreamState) -> Tensor:
        """(batch, frames, width) -> (batch, outputs possible so far, width)."""
        buffer = state.extend(self, x, self.left)
        outputs = max(0, buffer.shape[1] - len(self.depthwise) + 1)
        state.keep(self, buffer[:, outputs:])
        depthwise = depthwise_by_conv1d if buffer.is_cuda else depthwise_by_shifts
        hidden = depthwise(buffer, self.depthwise, outputs)
        hidden = self.contract(F.gelu(self.expand(self.norm(hidden))))
        return buffer[:, self.left : self.left + outputs] + hidden


def depthwise_by_shifts(x: Tensor, kernel: Tensor, outputs: int) -> Tensor:
    """(batch, frames, width) with a (taps, width) kernel -> (batch, outputs, width).

    For CPUs: there a convolution takes longer, and its sums depend on the clip's length.
    """
    total = torch.zeros_like(x[:, :outputs])
    for i, weight in enumerate(kernel):
        total = total + x[:, i : i + outputs] * weight
    return total


def depthwise_by_conv1d(x: Tensor, kernel: Tensor, outputs: int) -> Tensor:
    """As `depthwise_by_shifts`, in one kernel: a GPU waits for the launch of each."""
    if not outputs:
        return x[:, :0]
    weight = kernel.T[:, None].to(x.dtype)
    return F.conv1d(x.transpose(1, 2), weight, groups=x.shape[2]).transpose(1, 2)
