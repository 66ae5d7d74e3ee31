"""Sizes of a code prior, and the check that its integer weights keep every sum exact."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vqasr.errors import CodecError

WEIGHT_SCALE = 128  # a weight w stands for w / 128
ACTIVATION_SCALE = 32  # an activation a stands for a / 32
HIGHEST = 127  # of weights and activations
EXACT = 1 << 24  # float32 holds every integer up to here
# Probabilities come from a table of exp(-i / 32) that ships with the weights, because libraries
# differ in the last bit of exp.
LOGIT_STEPS = 32
TABLE_SIZE = 512
LARGEST_FREQUENCY = 1 << 16
CERTAIN_FREQUENCY = 1 << 24  # of a stop after a stop, against 1 for each other code


@dataclass(frozen=True)
class CodePriorConfig:
    """Describe the sizes of a `CodePrior`.

    Attributes:
        num_quantizers, codebook_size: of the codec.
        num_modelled: codebooks whose codes are predicted and predicted from. Those above are almost
            noise and get a fixed distribution each.
        codec_fingerprint: hexadecimal, of the codec whose codes it was trained on.
        width: channels of the causal network.
        head_size: channels of each codebook's head.
        dilations: frames between the two taps of each block.
        variable_depth: of the codec. After code 0 in the second codebook or a later one, all
            further codes of the frame are 0 and cost next to nothing.
    """

    num_quantizers: int
    codebook_size: int
    codec_fingerprint: str
    num_modelled: int = 4
    width: int = 176
    head_size: int = 144
    dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    variable_depth: bool = False

    def to_json(self) -> str:
        """Return the sizes as JSON: keys sorted, no spaces; the prior's fingerprint covers it."""
        values = asdict(self)
        if not self.variable_depth:  # keeps the fingerprints of priors older than this field
            del values["variable_depth"]
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return names and shapes of the weights (int8), biases and table (int32)."""
        n, width, head = self.num_modelled, self.width, self.head_size
        shapes: dict[str, tuple[int, ...]] = {
            "embedding": (n, self.codebook_size, width),
            "start": (width,),
            "level": (n + 1, width),
            "fixed.bias": (self.num_quantizers - n, self.codebook_size),
            "exp_table": (TABLE_SIZE,),
        }
        layers = {}
        for i in range(len(self.dilations)):
            layers[f"block.{i}.in"] = (width, 2 * width)
            layers[f"block.{i}.out"] = (width, width)
        for j in range(n):
            layers[f"head.{j}.in"] = (head, 2 * width)
            layers[f"head.{j}.mid"] = (head, head)
            layers[f"head.{j}.out"] = (self.codebook_size, head)
        for name, shape in layers.items():
            shapes[f"{name}.weight"] = shape
            shapes[f"{name}.bias"] = shape[:1]
        return shapes


def check_tensors(
    config: CodePriorConfig, tensors: dict[str, npt.NDArray[Any]]
) -> dict[str, npt.NDArray[Any]]:
    """Return the tensors in C order and little endian.

    Raises:
        CodecError: sizes are impossible, tensors are missing, have other shapes, or could make a
            sum inexact.
    """
    sizes = (config.num_modelled, config.codebook_size, config.width, config.head_size)
    whole = all(isinstance(dilation, int) for dilation in config.dilations)
    positive = whole and min(*sizes, *config.dilations) > 0
    if not positive or config.num_modelled > config.num_quantizers:
        raise CodecError(
            f"{config}: sizes and dilations must be positive integers, and num_modelled at most "
            "num_quantizers."
        )
    shapes = config.shapes()
    if set(tensors) != set(shapes):
        raise CodecError(f"the prior's tensors differ in {sorted(set(tensors) ^ set(shapes))}.")
    checked = {}
    for name, shape in shapes.items():
        tensor = tensors[name]
        kind = np.int32 if name.endswith("bias") or name == "exp_table" else np.int8
        if tensor.shape != shape or tensor.dtype != kind:
            raise CodecError(
                f"the prior's tensor {name} is {tensor.dtype} {tensor.shape}, not "
                f"{np.dtype(kind)} {shape}."
            )
        # Little endian also where the machine is not: the fingerprint is over these bytes.
        checked[name] = np.ascontiguousarray(tensor, dtype=np.dtype(kind).newbyteorder("<"))
    largest = _largest_sum(config, checked)
    if largest >= EXACT:
        raise CodecError(
            f"the prior's sums could reach {largest}, but are exact below {EXACT} only. Train it "
            "with smaller weights or a smaller width."
        )
    if checked["exp_table"].min() < 1 or checked["exp_table"].max() > LARGEST_FREQUENCY:
        raise CodecError(f"the prior's exp_table must lie between 1 and {LARGEST_FREQUENCY}.")
    return checked


def _largest_sum(config: CodePriorConfig, tensors: dict[str, npt.NDArray[Any]]) -> int:
    """The largest magnitude that any sum of the prior's arithmetic can have."""

    def reach(layer: str) -> int:
        weight = np.abs(tensors[f"{layer}.weight"].astype(np.int64))
        bias = np.abs(tensors[f"{layer}.bias"].astype(np.int64))
        return int((weight.sum(axis=1) * HIGHEST + bias).max())

    residual = (config.num_modelled + 2) * (HIGHEST + 1) * WEIGHT_SCALE
    # Differences of two logits are taken.
    sums = [2 * int(np.abs(tensors["fixed.bias"].astype(np.int64)).max(initial=0))]
    for i in range(len(config.dilations)):
        residual += reach(f"block.{i}.out")
        sums.append(reach(f"block.{i}.in"))
    for j in range(config.num_modelled):
        middle = reach(f"head.{j}.mid") + HIGHEST * WEIGHT_SCALE
        sums += [reach(f"head.{j}.in"), middle, 2 * reach(f"head.{j}.out")]
    return max(residual, *sums)
