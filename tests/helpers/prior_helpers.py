"""A small frozen code prior: retraining the default does not touch what is written with it."""

import numpy as np

from vqasr.entropy.prior import CodePrior
from vqasr.entropy.prior_config import CodePriorConfig
from vqasr.entropy.prior_decoder import PriorDecoder
from vqasr.training.prior_network import exp_table

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
        if name == "exp_table":
            tensors[name] = exp_table()
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
