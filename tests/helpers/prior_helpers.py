"""A small frozen code prior: retraining the default does not touch what is written with it."""

import numpy as np

from vqasr.entropy.payload import range_code
from vqasr.entropy.prior import CodePrior
from vqasr.entropy.prior_config import HIGHEST, TABLE_SIZE, CodePriorConfig
from vqasr.entropy.prior_decoder import PriorDecoder

CODEC = bytes.fromhex("0123456789ab")


def random_prior(
    codebook_size: int = 16,
    num_quantizers: int = 3,
    width: int = 16,
    scale: float = 100.0,
    codec: bytes = CODEC,
) -> CodePrior:
    """A prior with weights out of a fixed generator, far from uniform."""
    config = CodePriorConfig(
        num_quantizers, codebook_size, codec.hex(), 2, width, head_size=16, dilations=(1, 2, 5)
    )
    # The raw 32-bit output of this generator is the same in every version of numpy.
    bits = np.random.Philox(key=7)
    tensors = {}
    for name, shape in config.shapes().items():
        if name == "exp_table":  # is the same in every prior
            tensors[name] = CodePrior.from_pretrained("vqasr-base-prior").tensors[name]
            continue
        raw = bits.random_raw(int(np.prod(shape))).astype(np.uint64) % np.uint64(2001)
        values = (raw.astype(np.int64) - 1000).reshape(shape) * scale / 1000
        kind = np.int8
        if name.endswith("bias"):
            kind, values = np.int32, values * 100
        tensors[name] = np.round(values).astype(kind)
    return CodePrior(config, tensors)


def likely_codes(prior: CodePrior, n: int, frames: int, seed: int = 0) -> np.ndarray:
    """(n, frames) codes drawn from the prior itself."""
    rng = np.random.default_rng(seed)
    reader = PriorDecoder(prior, n, 1, frames)
    codes = np.zeros((n, frames), np.int64)
    for t in range(frames):
        if t:
            reader.next_frame()
        for j in range(n):
            ends = np.cumsum(reader.frequencies()[0])
            codes[j, t] = np.searchsorted(ends, rng.integers(ends[-1]), side="right")
            reader.add(codes[j, t : t + 1])
    return codes


PRIOR = random_prior()


def golden_codes() -> np.ndarray:
    """(3, 60) codes from an integer recurrence: neither numpy nor torch has a say in them."""
    state, values = 1, []
    for _ in range(180):
        state = (1_103_515_245 * state + 12_345) % 2**31
        values.append(state >> 27)
    return np.array(values).reshape(3, 60)


def golden_bytes() -> bytes:
    return range_code(golden_codes(), PRIOR)


def integers_only(prior: CodePrior, codes: np.ndarray) -> list[list[list[int]]]:
    """Frequencies in Python's integers, frame by frame, from the documented arithmetic alone."""
    t = {name: tensor.tolist() for name, tensor in prior.tensors.items()}
    config = prior.config
    n, frames = codes.shape
    used = min(n, config.num_modelled)

    def half_up(value: int) -> int:
        return (value + 64) // 128

    def layer(name: str, inputs: list[int]) -> list[int]:
        rows = zip(t[f"{name}.weight"], t[f"{name}.bias"], strict=True)
        return [sum(w * x for w, x in zip(row, inputs, strict=True)) + b for row, b in rows]

    def frequencies(logits: list[int]) -> list[int]:
        top = max(logits)
        return [t["exp_table"][min((top - v) // 128, TABLE_SIZE - 1)] for v in logits]

    past: list[dict[int, list[int]]] = [{} for _ in config.dilations]
    below, result = t["start"], []
    for frame in range(frames):
        sums = [128 * (a + b) for a, b in zip(below, t["level"][used], strict=True)]
        for i, dilation in enumerate(config.dilations):
            now = [max(-HIGHEST, min(HIGHEST, half_up(v))) for v in sums]
            past[i][frame] = now
            before = past[i].get(frame - dilation, [0] * config.width)
            inner = [max(0, min(HIGHEST, half_up(v))) for v in layer(f"block.{i}.in", now + before)]
            sums = [a + b for a, b in zip(sums, layer(f"block.{i}.out", inner), strict=True)]
        context = [max(-HIGHEST, min(HIGHEST, half_up(v))) for v in sums]
        below, rows = [0] * config.width, []
        for j in range(n):
            if j >= used:
                rows.append(frequencies(t["fixed.bias"][j - config.num_modelled]))
                continue
            clipped = [max(-HIGHEST, min(HIGHEST, v)) for v in below]
            first = layer(f"head.{j}.in", context + clipped)
            inner = [max(0, min(HIGHEST, half_up(v))) for v in first]
            middle = layer(f"head.{j}.mid", inner)
            inner = [
                max(0, min(HIGHEST, half_up(v + 128 * x)))
                for v, x in zip(middle, inner, strict=True)
            ]
            rows.append(frequencies(layer(f"head.{j}.out", inner)))
            code = t["embedding"][j][int(codes[j, frame])]
            below = [a + b for a, b in zip(below, code, strict=True)]
        result.append(rows)
    return result
