"""Compare our range coder with constriction's on the bundled clips: bytes and time.

python recipes/entropy_coding/compare_coders.py
"""

import argparse
import time

import constriction
import numpy as np

from vqasr.cli.demo import bundled_clips
from vqasr.codec.modeling import VQCodecModel
from vqasr.compression.compress import encode_audio
from vqasr.entropy.bundled import load_bundled
from vqasr.entropy.payload import decode_payloads, range_code
from vqasr.entropy.prior import CodePrior


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-quantizers", type=int, default=4, help="codebooks to use")
    arguments = parser.parse_args()
    codec = VQCodecModel.from_pretrained("vqasr-base").eval()
    prior = load_bundled("vqasr-base-prior")
    clips = [encode_audio(codec, c.samples, arguments.num_quantizers) for c in bundled_clips()]
    seconds = sum(c.shape[1] for c in clips) / 25
    print("| chunk | chunks | ideal bytes | ours | constriction | RTF of ours, write and read |")
    print("|---|---|---|---|---|---|")
    for chunk_s in (1, 5, 10):
        step = 25 * chunk_s
        chunks = [c[:, i : i + step] for c in clips for i in range(0, c.shape[1], step)]
        ideal = sum(prior.bits(c).sum() for c in chunks) / 8
        started = time.perf_counter()
        ours = [range_code(c, prior) for c in chunks]
        for codes, payload in zip(chunks, ours, strict=True):
            (decoded,) = decode_payloads([payload], len(codes), codes.shape[1], prior)
            assert decoded is not None
            assert np.array_equal(decoded, codes)
        ours_s = time.perf_counter() - started
        theirs = [constriction_bytes(c, prior) for c in chunks]
        print(
            f"| {chunk_s} s | {len(chunks)} | {ideal:.0f} | {sum(map(len, ours))} | "
            f"{sum(theirs)} | {ours_s / seconds:.4f} |"
        )


def constriction_bytes(codes: np.ndarray, prior: CodePrior) -> int:
    """Return the size with constriction's range coder: floats in, 32-bit words out."""
    encoder = constriction.stream.queue.RangeEncoder()
    start, frequency, total = prior.intervals(codes)
    for s, f, t in zip(start.T.ravel(), frequency.T.ravel(), total.T.ravel(), strict=True):
        # Three entries (codes below, the code, codes above) give the same interval as all 1024.
        table = np.array([max(s, 1e-9), f, max(t - s - f, 1e-9)], dtype=np.float64) / t
        model = constriction.stream.model.Categorical(table, perfect=False)
        encoder.encode(1, model)
    return 4 * len(encoder.get_compressed())


if __name__ == "__main__":
    main()
