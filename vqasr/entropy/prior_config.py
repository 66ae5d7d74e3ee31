"""Sizes of a code prior, and the check that its integer weights keep every sum exact."""

import json
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from vqasr.errors import CodecError

WEIGHT_SCALE = 128  # a weight w stands for w / 128
ACTIVATION_SCALE = 32  # an activation a stands for a / 32
HIGHEST = 127  # of weights and activations
EXACT = 1 << 24  # float32 holds every integer up to here
# Probabilities come from a table of exp(-i / 32) that ships with the weights, because no two
# libraries promise the same last bit of exp.
LOGIT_STEPS = 32
TABLE_SIZE = 512
LARGEST_FREQUENCY = 1 << 16
# Of the stop after a stop, against 1 for each other code.
CERTAIN_FREQUENCY = 1 << 24


@dataclass(frozen=True)
class CodePriorConfig:
    """Sizes of a `CodePrior`.

    Attributes:
        num_quantizers, codebook_size: of the codec.
        num_modelled: codebooks whose codes are predicted and predicted from. Those above are the
            noise that the lower ones left, and have a fixed distribution each.
        codec_fingerprint: hexadecimal, of the codec whose codes it was trained on.
        width: channels of the causal network.
        head_size: channels of each codebook's head.
        dilations: frames between the two taps of each block.
        variable_depth: of the codec. After code 0 in the second codebook or a later one, all
            further codes of the frame are 0, and next to free.
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
        """The sizes in JSON: keys sorted, no spaces. The prior's fingerprint covers it."""
        values = asdict(self)
        if not self.variable_depth:  # as before there was such a thing
            del values["variable_depth"]
        return json.dumps(values, sort_keys=True, separators=(",", ":"))

    def check(self) -> None:
        """Raise CodecError unless a prior can have these sizes."""
        sizes = (self.num_modelled, self.codebook_size, self.width, self.head_size)
        if (
            min(sizes) < 1
            or self.num_modelled > self.num_quantizers
            or not all(isinstance(d, int) and d > 0 for d in self.dilations)
        ):
            raise CodecError(
                f"{self}: sizes and dilations must be positive, and num_modelled at most "
                "num_quantizers."
            )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the weights (int8), biases and table (int32)."""
        n, width, head = self.num_modelled, self.width, self.head_size
        shapes: dict[str, tuple[int, ...]] = {
            "embedding": (n, self.codebook_size, width),
            "start": (width,),
            "level": (n + 1, width),
            "fixed.bias": (self.num_quantizers - n, self.codebook_size),
            "exp_table": (TABLE_SIZE,),
        }
        for i in range(len(self.dilations)):
            shapes[f"block.{i}.in.weight"] = (width, 2 * width)
            shapes[f"block.{i}.in.bias"] = (width,)
            shapes[f"block.{i}.out.weight"] = (width, width)
            shapes[f"block.{i}.out.bias"] = (width,)
        for j in range(n):
            shapes[f"head.{j}.in.weight"] = (head, 2 * width)
            shapes[f"head.{j}.in.bias"] = (head,)
            shapes[f"head.{j}.mid.weight"] = (head, head)
            shapes[f"head.{j}.mid.bias"] = (head,)
            shapes[f"head.{j}.out.weight"] = (self.codebook_size, head)
            shapes[f"head.{j}.out.bias"] = (self.codebook_size,)
        return shapes


def check_tensors(
    config: CodePriorConfig, tensors: dict[str, npt.NDArray]
) -> dict[str, npt.NDArray]:
    """The tensors, in C order.

    Raises:
        CodecError: tensors are missing, have other shapes, or could make a sum inexact.
    """
    config.check()
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
    largest = max(
        _largest_sum(config, checked),
        _largest_head_sum(config, checked),
        2 * int(np.abs(checked["fixed.bias"].astype(np.int64)).max(initial=0)),
    )
    if largest >= EXACT:
        raise CodecError(
            f"the prior's sums could reach {largest}, but are exact below {EXACT} only. Train it "
            "with smaller weights or a smaller width."
        )
    if checked["exp_table"].min() < 1 or checked["exp_table"].max() > LARGEST_FREQUENCY:
        raise CodecError(f"the prior's exp_table must lie between 1 and {LARGEST_FREQUENCY}.")
    return checked


def _reach(tensors: dict[str, npt.NDArray], name: str) -> int:
    """The largest magnitude that a layer's sums can have."""
    rows = np.abs(tensors[f"{name}.weight"].astype(np.int64)).sum(axis=1) * HIGHEST
    return int((rows + np.abs(tensors[f"{name}.bias"].astype(np.int64))).max())


def _largest_sum(config: CodePriorConfig, tensors: dict[str, npt.NDArray]) -> int:
    residual = (config.num_modelled + 2) * (HIGHEST + 1) * WEIGHT_SCALE
    inner = 0
    for i in range(len(config.dilations)):
        residual += _reach(tensors, f"block.{i}.out")
        inner = max(inner, _reach(tensors, f"block.{i}.in"))
    return max(residual, inner)


def _largest_head_sum(config: CodePriorConfig, tensors: dict[str, npt.NDArray]) -> int:
    largest = 0
    for j in range(config.num_modelled):
        middle = _reach(tensors, f"head.{j}.mid") + HIGHEST * WEIGHT_SCALE
        last = 2 * _reach(tensors, f"head.{j}.out")  # a difference of two logits is taken
        largest = max(largest, _reach(tensors, f"head.{j}.in"), middle, last)
    return largest
