"""Streaming convolutions, which give the same result over a whole clip and chunk by chunk.

Every layer keeps the tail of its input in a `StreamState` and computes only the outputs that its
right context allows. A whole clip is one chunk with a fresh state, so batch, single and streaming
share one code path and agree by construction. Nothing pads on the right: the caller appends the
encoder's look-ahead as zeros, so padding a clip in a batch does not change its frames.

Tensors are (batch, frames, channels), and kernels are written as matrix products and shifted sums:
on CPU that is faster than `nn.Conv1d`, whose oneDNN kernels are made anew for every clip length.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class StreamState:
    """State between chunks: the unconsumed tail of each layer's input, and other values of it."""

    def __init__(self) -> None:
        self.values: dict[nn.Module, Tensor] = {}  # of layers that keep something else
        self._tails: dict[nn.Module, Tensor] = {}

    def extend(
        self, layer: nn.Module, x: Tensor, left: int, kernel: int, stride: int = 1
    ) -> tuple[Tensor, int]:
        """Append `x` to the layer's tail (`left` zeros in the first chunk), and keep the new tail.

        Returns:
            tail and `x` (batch, frames, ...), and the number of outputs that they allow.
        """
        tail = self._tails.get(layer)
        if tail is None:
            tail = x.new_zeros(x.shape[0], left, *x.shape[2:])
        buffer = torch.cat([tail, x], dim=1)
        outputs = max(0, (buffer.shape[1] - kernel) // stride + 1)
        self._tails[layer] = buffer[:, outputs * stride :]
        return buffer, outputs


class StreamConv(nn.Module):
    """Convolution over time with `left` frames of past; the rest of the kernel looks ahead."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, left: int, stride: int = 1
    ):
        super().__init__()
        self.kernel, self.left, self.stride = kernel, left, stride
        self.linear = nn.Linear(kernel * in_channels, out_channels)

    def forward(self, x: Tensor, state: StreamState) -> Tensor:
        """Convolve (batch, frames, in_channels) to (batch, complete outputs, out_channels)."""
        buffer, outputs = state.extend(self, x, self.left, self.kernel, self.stride)
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
        """Draw the depthwise kernel; the layers inside have their own `reset_parameters`."""
        nn.init.normal_(self.depthwise, std=len(self.depthwise) ** -0.5)

    def forward(self, x: Tensor, state: StreamState) -> Tensor:
        """Transform (batch, frames, width) to (batch, complete outputs, width)."""
        buffer, outputs = state.extend(self, x, self.left, len(self.depthwise))
        depthwise = depthwise_by_conv1d if buffer.is_cuda else depthwise_by_shifts
        hidden = depthwise(buffer, self.depthwise, outputs)
        hidden = self.contract(F.gelu(self.expand(self.norm(hidden))))
        return buffer[:, self.left : self.left + outputs] + hidden


def depthwise_by_shifts(x: Tensor, kernel: Tensor, outputs: int) -> Tensor:
    """Convolve (batch, frames, width) with a (taps, width) kernel -> (batch, outputs, width).

    For CPUs, where `conv1d` is slower and its sums depend on the clip's length.
    """
    total = torch.zeros_like(x[:, :outputs])
    for i, weight in enumerate(kernel):
        total = total + x[:, i : i + outputs] * weight
    return total


def depthwise_by_conv1d(x: Tensor, kernel: Tensor, outputs: int) -> Tensor:
    """Convolve as `depthwise_by_shifts` does, with a single kernel launch for GPUs."""
    if not outputs:
        return x[:, :0]
    weight = kernel.T[:, None].to(x.dtype)
    return F.conv1d(x.transpose(1, 2), weight, groups=x.shape[2]).transpose(1, 2)
