"""Whisper's decoder over encoder states of unequal length.

transformers' Whisper has no mask there: it always pads to 30 s (its decoder passes None as the
cross-attention's mask). The layers and their weights stay the base model's own.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.whisper.modeling_whisper import WhisperDecoder, WhisperDecoderLayer


class CrossMask:
    """The mask of the encoder states last computed: (batch, 1, 1, states) float, or None."""

    def __init__(self) -> None:
        self.value: Tensor | None = None

    def fit(self, rows: int) -> Tensor | None:
        """The mask for `rows` decoder rows: several for an item where beams are searched."""
        if self.value is None or len(self.value) == rows:
            return self.value
        return self.value.repeat_interleave(rows // len(self.value), dim=0)


class MaskedDecoderLayer(WhisperDecoderLayer):
    """A decoder layer that attends to what `CrossMask` leaves; made by `mask_decoder`."""

    cross_mask: CrossMask

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        kwargs["encoder_attention_mask"] = self.cross_mask.fit(len(hidden_states))
        return super().forward(hidden_states, *args, **kwargs)


def mask_decoder(decoder: WhisperDecoder, mask: CrossMask) -> WhisperDecoder:
    """A view of `decoder` whose cross-attention is masked; `decoder` itself stays as it is."""
    view = copy.copy(decoder)
    # A copied module shares the dictionary of its parts.
    view._modules = dict(decoder._modules)
    view.layers = nn.ModuleList(_masked(layer, mask) for layer in decoder.layers)
    return view


def _masked(layer: nn.Module, mask: CrossMask) -> MaskedDecoderLayer:
    """The same layer, parameters and their names included, under another forward."""
    view: Any = copy.copy(layer)
    view.__class__ = MaskedDecoderLayer
    view.cross_mask = mask
    return view


def additive_mask(exists: Tensor, dtype: torch.dtype) -> Tensor | None:
    """(batch, states) bool -> (batch, 1, 1, states), 0 or the lowest number; None if all exist."""
    if bool(exists.all()):
        return None
    lowest = torch.finfo(dtype).min
    return torch.zeros_like(exists, dtype=dtype).masked_fill(~exists, lowest)[:, None, None]
