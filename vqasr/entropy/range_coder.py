"""A range coder with 56-bit integers: symbols and their integer frequencies to bytes and back.

After Martin, "Range encoding" (1979), and Schindler's byte-wise form with carry. It is written here
and not taken from constriction, because a chunk of one second holds about 100 bytes: constriction
ends on 32-bit words (recipes/entropy_coding measures what that costs), takes probabilities as
floats and rounds them inside, where a file format cannot promise anything.
"""

TOP_BITS = 56
BOTTOM_BITS = 48
_TOP = 1 << TOP_BITS
_BOTTOM = 1 << BOTTOM_BITS
_TOP_BYTES = TOP_BITS // 8


class RangeEncoder:
    """Collects symbols; `finish` gives the shortest bytes that decode to them."""

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
        """The bytes; trailing zeros are left out, since the decoder reads zeros beyond the end."""
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
        # The sum of all intervals stays below 1: there is always a byte that can take the carry.
        last = len(self._out) - 1
        while self._out[last] == 0xFF:
            self._out[last] = 0
            last -= 1
        self._out[last] += 1


class RangeDecoder:
    """Takes symbols out of what `RangeEncoder` made.

    Args:
        data: the bytes, and nothing else.
    """

    def __init__(self, data: bytes):
        self._data = data
        self._position = _TOP_BYTES
        self._code = int.from_bytes(data[:_TOP_BYTES].ljust(_TOP_BYTES, b"\0"), "big")
        self._range = _TOP
        self._again = RangeEncoder()

    def target(self, total: int) -> int:
        """Where in [0, total) the next symbol's interval lies; total or more: nowhere."""
        return self._code // (self._range // total)

    def advance(self, start: int, frequency: int, total: int) -> None:
        """Remove the symbol that owns [start, start + frequency), which holds `target`."""
        unit = self._range // total
        self._code -= unit * start
        self._range = unit * frequency
        while self._range < _BOTTOM:
            byte = self._data[self._position] if self._position < len(self._data) else 0
            self._code = self._code << 8 | byte
            self._position += 1
            self._range <<= 8
        self._again.encode(start, frequency, total)

    def is_complete(self) -> bool:
        """Whether the bytes are exactly what the encoder makes of the decoded symbols.

        There is one encoding of a chunk only. This is no check of the probabilities: another prior
        may well find symbols that fit; the chunk's checksum covers the prior for that.
        """
        return self._again.finish() == self._data
