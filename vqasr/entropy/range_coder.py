"""A range coder with 56-bit integers: symbols and their integer frequencies to bytes and back.

After Martin, "Range encoding" (1979), in Schindler's byte-wise form with carry. constriction does
not fit: it ends on 32-bit words, which is much for a chunk of 100 bytes (measured in
recipes/entropy_coding), and rounds floating-point probabilities internally, which a file format
cannot depend on.
"""

import numpy as np
import numpy.typing as npt

TOP_BITS = 56
BOTTOM_BITS = 48
_TOP = 1 << TOP_BITS
_BOTTOM = 1 << BOTTOM_BITS
_TOP_BYTES = TOP_BITS // 8


class RangeEncoder:
    """Encode symbols one by one; `finish` returns the shortest bytes that decode to them."""

    def __init__(self) -> None:
        self._low = 0
        self._range = _TOP
        self._out = bytearray()

    def encode(self, start: int, frequency: int, total: int) -> None:
        """Add a symbol that owns [start, start + frequency) of [0, total); total <= 2^32."""
        unit = self._range // total
        self._low += unit * start
        self._range = unit * frequency
        if self._low >= _TOP:
            self._low -= _TOP
            self._carry()
        while self._range < _BOTTOM:
            self._out.append(self._low >> BOTTOM_BITS)
            self._low = (self._low & (_BOTTOM - 1)) << 8
            self._range <<= 8

    def finish(self) -> bytes:
        """Return the bytes without trailing zeros, since decoders read zeros beyond the end."""
        for count in range(_TOP_BYTES + 1):
            step = 1 << (TOP_BITS - 8 * count)
            value = -(-self._low // step) * step
            if value < self._low + self._range:
                break
        if value >= _TOP:
            value -= _TOP
            self._carry()
        self._out += value.to_bytes(_TOP_BYTES, "big")
        return bytes(self._out.rstrip(b"\0"))

    def _carry(self) -> None:
        # The sum of all intervals stays below 1, so some byte can always take the carry.
        last = len(self._out) - 1
        while self._out[last] == 0xFF:
            self._out[last] = 0
            last -= 1
        self._out[last] += 1


class RangeDecoder:
    """Decode the bytes of a `RangeEncoder` symbol by symbol."""

    def __init__(self, data: bytes):
        self._data = data
        self._position = _TOP_BYTES
        self._code = int.from_bytes(data[:_TOP_BYTES].ljust(_TOP_BYTES, b"\0"), "big")
        self._range = _TOP
        self._again = RangeEncoder()

    def decode(self, ends: npt.NDArray[np.int64]) -> int:
        """Decode the next symbol; -1 where no encoder writes these bytes.

        ends: cumulative frequencies of all symbols, the first one's frequency first.
        """
        total = int(ends[-1])
        unit = self._range // total
        target = self._code // unit
        if target >= total:
            return -1
        symbol = int(np.searchsorted(ends, target, side="right"))
        start = int(ends[symbol - 1]) if symbol else 0
        frequency = int(ends[symbol]) - start
        self._code -= unit * start
        self._range = unit * frequency
        while self._range < _BOTTOM:
            byte = self._data[self._position] if self._position < len(self._data) else 0
            self._code = self._code << 8 | byte
            self._position += 1
            self._range <<= 8
        self._again.encode(start, frequency, total)
        return symbol

    def is_complete(self) -> bool:
        """Return whether the decoded symbols encode to exactly these bytes.

        So each chunk has one valid encoding. This does not detect a wrong prior, whose symbols may
        fit as well; the chunk's checksum does.
        """
        return self._again.finish() == self._data
