"""Fixed-width integer codes to bits and back, most significant bit first."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vqasr.errors import InvalidCodesError

IntCodes = npt.NDArray[np.integer[Any]]


def packed_size_bytes(count: int, bits_per_code: int) -> int:
    """Bytes that ``count`` codes of ``bits_per_code`` bits take, padded to a whole byte."""
    return (count * bits_per_code + 7) // 8


def check_code_array(codes: IntCodes, num_quantizers: int | None = None) -> None:
    """Raise InvalidCodesError unless ``codes`` is an integer array of (num_quantizers, frames).

    num_quantizers: the number of rows wanted, or None to accept any.
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
    if codes.ndim != 2 or num_quantizers not in (None, codes.shape[0]):
        raise InvalidCodesError(
            f"codes must have shape ({num_quantizers or 'num_quantizers'}, frames), not "
            f"{codes.shape}; pass one utterance, with one row for each codebook in use."
        )


def check_code_range(codes: IntCodes, bits_per_code: int) -> None:
    """Raise InvalidCodesError unless every code lies in 0..2**bits_per_code - 1."""
    if codes.size == 0:
        return
    largest_allowed = 2**bits_per_code - 1
    for value in (int(codes.min()), int(codes.max())):
        if not 0 <= value <= largest_allowed:
            raise InvalidCodesError(
                f"codes hold the value {value}, but {bits_per_code} bits per code allow "
                f"0..{largest_allowed}; pass the bits_per_code of the codec that made these codes."
            )


def pack_codes(codes: IntCodes, bits_per_code: int) -> bytes:
    """Pack codes one after another, each most significant bit first, zero-padded to a byte.

    codes: integer array of any shape, taken in C order; each value must already lie in
    0..2**bits_per_code - 1 (``check_code_range``). bits_per_code: 1..16.
    """
    flat = codes.reshape(-1)
    bits = np.empty((flat.size, bits_per_code), dtype=np.uint8)
    # Column by column: one (count, bits) integer array would take 8 times the memory of this.
    for column in range(bits_per_code):
        bits[:, column] = (flat >> (bits_per_code - 1 - column)) & 1
    return np.packbits(bits).tobytes()


def unpack_codes(payload: bytes, count: int, bits_per_code: int) -> npt.NDArray[np.int64]:
    """The ``count`` codes that ``pack_codes`` packed, as int64 of shape (count,).

    payload: at least ``packed_size_bytes(count, bits_per_code)`` bytes. bits_per_code: 1..16.
    """
    packed = np.frombuffer(payload, dtype=np.uint8)
    bits = np.unpackbits(packed, count=count * bits_per_code).reshape(count, bits_per_code)
    codes = np.zeros(count, dtype=np.int64)
    for column in range(bits_per_code):
        codes <<= 1
        codes |= bits[:, column]
    return codes


def padding_is_zero(payload: bytes, count: int, bits_per_code: int) -> bool:
    """Whether the unused low bits of the payload's last byte are all zero."""
    padding_bits = -(count * bits_per_code) % 8
    return padding_bits == 0 or payload[-1] & ((1 << padding_bits) - 1) == 0
