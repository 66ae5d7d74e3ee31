"""Store weights as int8 with a scale per row: half the size of float16, in gzip an eighth less.

Symmetric rounding per row, as LLM.int8() does for matrices (Dettmers et al., arXiv 2208.07339), but
of the weights alone: in memory they are float32 again.
"""

import gzip
import os
import zlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils.hub import cached_file

from vqasr.files import replace_file

INT8_FILE = "model_int8.safetensors.gz"

SCALE = ".int8_scale"
# Narrower matrices stay float16, and so do codebooks, which must equal the codec's.
NARROWEST = 16
CODEBOOKS = "codebooks"


def to_int8(state: Mapping[str, Tensor], bits: int = 8) -> dict[str, Tensor]:
    """Round matrices to int8, with (..., 1) float32 scales under their name + ".int8_scale".

    Other tensors become float16.

    Args:
        state: weights by name.
        bits: of each integer, 2 to 8. Fewer round more, and gzip makes them smaller.
    """
    highest = 2 ** (bits - 1) - 1
    tensors = {}
    for name, tensor in state.items():
        value = tensor.detach().cpu().float().contiguous()
        if value.ndim < 2 or min(value.shape[-2:]) < NARROWEST or name.endswith(CODEBOOKS):
            tensors[name] = value.half()
            continue
        scale = value.abs().amax(-1, keepdim=True).clamp_min(1e-12) / highest
        tensors[name] = (value / scale).round().to(torch.int8)
        tensors[name + SCALE] = scale
    return tensors


def from_int8(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Restore float32; of 8 bits, a weight differs by at most 1/254 of the largest in its row."""
    return {
        name: tensor.float() * tensors.get(name + SCALE, 1.0)
        for name, tensor in tensors.items()
        if not name.endswith(SCALE)
    }


def save_int8(model: PreTrainedModel, folder: str | os.PathLike[str], bits: int = 8) -> None:
    """Save configuration and weights of a model as integers, see `to_int8`."""
    model.config.save_pretrained(folder)
    weights = save(to_int8(model.state_dict(), bits), {"format": "pt"})
    replace_file(Path(folder) / INT8_FILE, gzip.compress(weights, 9, mtime=0))


def load_int8(source: str | os.PathLike[str]) -> dict[str, Tensor] | None:
    """Load the weights that `save_int8` wrote, in float32; None if there are none.

    Args:
        source: folder or hub id.

    Raises:
        OSError: the file is damaged.
    """
    path = cached_file(str(source), INT8_FILE, _raise_exceptions_for_missing_entries=False)
    if path is None:
        return None
    try:
        return from_int8(load(gzip.decompress(Path(path).read_bytes())))
    except (EOFError, zlib.error) as error:
        raise OSError(f"{path}: is damaged ({error})") from error
