"""Store weights as int8 with a scale per row: half the size of float16.

Symmetric rounding per row, as LLM.int8() does for matrices (Dettmers et al., arXiv 2208.07339), but
of the weights alone: in memory they are float32 again.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

SCALE = ".int8_scale"
HIGHEST = 127
# Narrower matrices stay float16, and so do codebooks, which must equal the codec's.
NARROWEST = 16
CODEBOOKS = "codebooks"


def to_int8(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Round matrices to int8, with (..., 1) float32 scales under their name + ".int8_scale".

    Other tensors become float16.
    """
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
    """Restore float32; a weight differs by at most 1/254 of the largest in its row."""
    return {
        name: tensor.float() * tensors.get(name + SCALE, 1.0)
        for name, tensor in tensors.items()
        if not name.endswith(SCALE)
    }
