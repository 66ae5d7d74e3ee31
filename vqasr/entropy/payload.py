"""Codes of one chunk to payload and back: range-coded with the prior, or packed where shorter."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vqasr.entropy.packing import IntCodes, pack_codes
from vqasr.entropy.prior import CodePrior
from vqasr.entropy.prior_decoder import PriorDecoder
from vqasr.entropy.range_coder import RangeDecoder, RangeEncoder

# Range-coded payloads hold at most this many codes per byte, so that decoding time is bounded by
# the size of a stream and not by the lengths that it claims.
CODES_PER_BYTE = 8
# Chunks that are decoded in step; more would gain little and need more memory.
ROWS = 32


def least_coded_bytes(codes: int) -> int:
    """Return the smallest size of a range-coded payload with this number of codes."""
    return -(-codes // CODES_PER_BYTE)


def encode_payload(
    codes: IntCodes, bits_per_code: int, prior: CodePrior | None
) -> tuple[bytes, bool]:
    """Encode (n, frames) codes; returns the payload, and whether it is range-coded."""
    packed = pack_codes(codes.T, bits_per_code)
    if prior is None or codes.size == 0:
        return packed, False
    coded = range_code(codes, prior).ljust(least_coded_bytes(codes.size), b"\0")
    return (coded, True) if len(coded) < len(packed) else (packed, False)


def range_code(codes: IntCodes, prior: CodePrior) -> bytes:
    """Range-code (n, frames) codes, frame after frame, codebook 0 first."""
    encoder = RangeEncoder()
    intervals = (a.T.ravel().tolist() for a in prior.intervals(codes))
    for start, frequency, total in zip(*intervals, strict=True):
        encoder.encode(start, frequency, total)
    return encoder.finish()


def decode_payloads(
    payloads: list[bytes], n: int, frames: int, prior: CodePrior
) -> list[npt.NDArray[np.int64] | None]:
    """Decode range-coded payloads of equally long chunks to (n, frames) codes each.

    None stands for a payload that no writer with this prior makes.
    """
    decoded: list[npt.NDArray[np.int64] | None] = []
    for first in range(0, len(payloads), ROWS):
        decoded += _decode_in_step(payloads[first : first + ROWS], n, frames, prior)
    return decoded


def _decode_in_step(
    payloads: list[bytes], n: int, frames: int, prior: CodePrior
) -> list[npt.NDArray[np.int64] | None]:
    least = least_coded_bytes(n * frames)
    stripped = [p.rstrip(b"\0") for p in payloads]
    # Zeros at the end are allowed only where they fill a payload up to the least size.
    valid = [len(p) == max(least, len(s)) for p, s in zip(payloads, stripped, strict=True)]
    decoders = [RangeDecoder(p) for p in stripped]
    model = PriorDecoder(prior, n, len(payloads), frames)
    codes = np.zeros((len(payloads), n, frames), np.int64)
    for t in range(frames):
        if not any(valid):
            break
        if t:
            model.next_frame()
        for j in range(n):
            ends = np.cumsum(model.frequencies(), axis=1)
            for row, decoder in enumerate(decoders):
                if valid[row]:
                    codes[row, j, t] = decoder.decode(ends[row])
                    valid[row] = codes[row, j, t] >= 0
            model.add(np.maximum(codes[:, j, t], 0))
    complete = [ok and decoder.is_complete() for ok, decoder in zip(valid, decoders, strict=True)]
    return [c if ok else None for c, ok in zip(codes, complete, strict=True)]
