"""Fixed-width integer codes to bits and back, most significant bit first."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt

from vqasr.errors import InvalidCodesError

IntCodes = npt.NDArray[np.integer[Any]]
WORD_BITS = 16  # the most bits that a code may have


def packed_size_bytes(count: int, bits_per_code: int) -> int:
    """Return the number of bytes that ``count`` packed codes take."""
    return (count * bits_per_code + 7) // 8


def check_num_quantizers(num_quantizers: int | None, most: int) -> int:
    """Return the number of codebooks, or most for None; raise InvalidCodesError out of range."""
    if num_quantizers is None:
        return most
    if not isinstance(num_quantizers, Integral) or not 1 <= num_quantizers <= most:
        raise InvalidCodesError(f"num_quantizers={num_quantizers!r}: choose 1 to {most} codebooks.")
    return num_quantizers


def check_codes(codes: IntCodes, num_quantizers: int, bits_per_code: int) -> None:
    """Raise InvalidCodesError unless codes can be packed.

    They must be an integer array (num_quantizers, frames) with values below 2**bits_per_code.
    """
    if not isinstance(codes, np.ndarray):
        raise InvalidCodesError(
            f"codes must be a numpy array, not {type(codes).__name__}; "
            "use numpy.asarray(codes), or tensor.cpu().numpy() for a torch tensor."
        )
    if codes.dtype.kind not in "iu":
        raise InvalidCodesError(
            f"codes must have an integer dtype, not {codes.dtype}; pass the indices that the "
            "quantizer chose, e.g. codes.astype(numpy.int64)."
        )
    if codes.ndim != 2 or len(codes) != num_quantizers:
        raise InvalidCodesError(
            f"codes must have shape ({num_quantizers}, frames), not {codes.shape}; pass one "
            "utterance, with one row for each codebook in use."
        )
    largest_allowed = 2**bits_per_code - 1
    for value in (int(codes.min()), int(codes.max())) if codes.size else ():
        if not 0 <= value <= largest_allowed:
            raise InvalidCodesError(
                f"codes hold the value {value}, but {bits_per_code} bits per code allow "
                f"0..{largest_allowed}; pass the bits_per_code of the codec that made these codes."
            )


def pack_codes(codes: IntCodes, bits_per_code: int) -> bytes:
    """Pack codes one after another, zero-padded to a whole byte.

    Args:
        codes: any shape, in C order; values below 2**bits_per_code (see `check_codes`).
        bits_per_code: 1 to 16.
    """
    words = codes.astype(">u2", order="C").reshape(-1, 1).view(np.uint8)
    bits = np.unpackbits(words, axis=1)[:, WORD_BITS - bits_per_code :]
    return np.packbits(bits).tobytes()


def unpack_codes(
    payload: bytes, n: int, frames: int, bits_per_code: int
) -> npt.NDArray[np.int64] | None:
    """Unpack (n, frames) codes that were packed frame after frame; None if padding bits are set."""
    bits = np.unpackbits(np.frombuffer(payload, np.uint8))
    used = n * frames * bits_per_code
    if bits[used:].any():
        return None
    words = np.zeros((n * frames, WORD_BITS), np.uint8)
    words[:, WORD_BITS - bits_per_code :] = bits[:used].reshape(-1, bits_per_code)
    codes = np.packbits(words, axis=1).view(">u2").reshape(frames, n)
    return codes.T.astype(np.int64, order="C")
