"""Weights as int8 with a scale for each row: half the size of float16, for models that ship.

Symmetric rounding to 8 bits, as Dettmers et al. (arXiv 2208.07339) do it for rows of matrices, but
of the weights alone: they are float32 again in memory, so that nothing else has to know.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

WEIGHTS_FILE = "model_int8.safetensors"
SCALE = ".int8_scale"
HIGHEST = 127
# Narrower matrices, and codebooks, which must be those of the codec, stay float16.
NARROWEST = 16
CODEBOOKS = "codebooks"


def to_int8(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices to int8 and, under their name + ".int8_scale", (..., 1) float32; rest to float16."""
    tensors = {}
    for name, tensor in state.items():
        value = tensor.detach().cpu().float().contiguous()
        if value.ndim < 2 or min(value.shape[-2:]) < NARROWEST or name.endswith(CODEBOOKS):
            tensors[name] = value.half()
            continue
        scale = value.abs().amax(-1, keepdim=True).clamp_min(1e-12) / HIGHEST
        tensors[name] = (value / scale).round().to(torch.int8)
        tensors[name + SCALE] = scale
    return tensors


def from_int8(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `to_int8` made -> float32; a row differs by at most 1/254 of its largest weight."""
    state = {}
    for name, tensor in tensors.items():
        if name.endswith(SCALE):
            continue
        scale = tensors.get(name + SCALE)
        state[name] = tensor.float() if scale is None else tensor.float() * scale
    return state


def save_int8(state: Mapping[str, Tensor], folder: Path) -> None:
    """Write model_int8.safetensors."""
    save_file(to_int8(state), folder / WEIGHTS_FILE, metadata={"format": "pt"})


def load_int8(path: str) -> dict[str, Tensor]:
    """Read model_int8.safetensors."""
    return from_int8(load_file(path))
