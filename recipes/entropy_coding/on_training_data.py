"""Compare the bundled prior's cross-entropy with the order-0 entropy of its training codes.

python recipes/entropy_coding/on_training_data.py runs/vqasr-base/prior_run/codes-NAME-0.safetensors
"""

import argparse

import numpy as np
from safetensors.numpy import load_file

from vqasr.entropy.bundled import load_bundled

CHUNKS, FRAMES = 300, 250


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("codes", help="of a pass of `vqasr train`; pass 0 has no augmentation")
    codes = load_file(parser.parse_args().codes)["codes"].astype(np.int64)
    prior = load_bundled("vqasr-base-prior")
    starts = np.random.default_rng(0).integers(0, codes.shape[1] - FRAMES, CHUNKS)
    for n in (1, 2, 4):
        chunks = [codes[:n, start : start + FRAMES] for start in starts]
        bits = np.mean([prior.bits(chunk).mean(axis=1) for chunk in chunks], axis=0)
        order0 = [entropy_bits(row) for row in codes[:n]]
        under = 100 * (1 - bits.sum() / sum(order0))
        print(f"{n}: {bits.round(3)} bits of {np.round(order0, 3)}, {under:.1f} % under order-0")


def entropy_bits(codes: np.ndarray) -> float:
    """Return the empirical entropy in bits per code."""
    share = np.bincount(codes) / codes.size
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum())


if __name__ == "__main__":
    main()
