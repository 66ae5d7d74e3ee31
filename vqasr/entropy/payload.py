"""Codes of one chunk <-> payload: range-coded with the prior, or packed where that is shorter."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vqasr.entropy.packing import IntCodes, pack_codes, padding_is_zero, unpack_codes
from vqasr.entropy.prior import CodePrior
from vqasr.entropy.prior_decoder import PriorDecoder
from vqasr.entropy.range_coder import RangeDecoder, RangeEncoder

# A range-coded payload has at least one byte for this many codes, so that decoding time is bounded
# by the bytes of a stream and not by what they claim.
CODES_PER_BYTE = 8
# Chunks that are decoded in step; more would gain little and need more memory.
ROWS = 32


def encode_payload(
    codes: IntCodes, bits_per_code: int, prior: CodePrior | None
) -> tuple[bytes, bool]:
    """(n, frames) codes -> payload, and whether it is range-coded."""
    packed = pack_codes(codes.T, bits_per_code)
    if prior is None or codes.size == 0:
        return packed, False
    coded = range_code(codes, prior).ljust(least_coded_bytes(codes.size), b"\0")
    return (coded, True) if len(coded) < len(packed) else (packed, False)


def range_code(codes: IntCodes, prior: CodePrior) -> bytes:
    """(n, frames) codes -> the shortest range-coded bytes: frame after frame, codebook 0 first."""
    encoder = RangeEncoder()
    intervals = (a.T.ravel().tolist() for a in prior.intervals(codes))
    for start, frequency, total in zip(*intervals, strict=True):
        encoder.encode(start, frequency, total)
    return encoder.finish()


def unpack_payload(payload: bytes, n: int, frames: int, bits: int) -> npt.NDArray[np.int64] | None:
    """A packed payload -> (n, frames) codes; None where padding bits are set."""
    if not padding_is_zero(payload, n * frames, bits):
        return None
    codes = unpack_codes(payload, n * frames, bits)
    return np.ascontiguousarray(codes.reshape(frames, n).T)


def decode_payloads(
    payloads: list[bytes], n: int, frames: int, prior: CodePrior
) -> list[npt.NDArray[np.int64] | None]:
    """Range-coded payloads of chunks with equally many frames -> (n, frames) codes of each.

    None stands for a payload that no writer with this prior makes.
    """
    found: list[npt.NDArray[np.int64] | None] = []
    for first in range(0, len(payloads), ROWS):
        found += _decode_together(payloads[first : first + ROWS], n, frames, prior)
    return found


def _decode_together(
    payloads: list[bytes], n: int, frames: int, prior: CodePrior
) -> list[npt.NDArray[np.int64] | None]:
    least = least_coded_bytes(n * frames)
    stripped = [p.rstrip(b"\0") for p in payloads]
    # Zeros at the end stand there only to make up the least length.
    good = [len(p) == max(least, len(s)) for p, s in zip(payloads, stripped, strict=True)]
    decoders = [RangeDecoder(p) for p in stripped]
    reader = PriorDecoder(prior, n, len(payloads), frames)
    codes = np.zeros((len(payloads), n, frames), np.int64)
    for t in range(frames):
        if not any(good):
            break
        if t:
            reader.next_frame()
        for j in range(n):
            frequencies = reader.frequencies()
            ends = np.cumsum(frequencies, axis=1)
            for row, decoder in enumerate(decoders):
                if good[row]:
                    codes[row, j, t] = _take(decoder, frequencies[row], ends[row])
                    good[row] = codes[row, j, t] >= 0
            reader.add(np.maximum(codes[:, j, t], 0))
    for row, decoder in enumerate(decoders):
        good[row] = good[row] and decoder.is_complete()
    return [c if ok else None for c, ok in zip(codes, good, strict=True)]


def _take(decoder: RangeDecoder, frequencies: npt.NDArray, ends: npt.NDArray) -> int:
    """The next code; -1 where no encoder writes what is there."""
    total = int(ends[-1])
    target = decoder.target(total)
    if target >= total:
        return -1
    code = int(np.searchsorted(ends, target, side="right"))
    frequency = int(frequencies[code])
    decoder.advance(int(ends[code]) - frequency, frequency, total)
    return code


def least_coded_bytes(codes: int) -> int:
    """The fewest bytes that a range-coded payload of so many codes may have."""
    return -(-codes // CODES_PER_BYTE)
