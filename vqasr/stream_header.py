"""The header of a ``.vqs`` stream, and the sizes of the fields that its writer and reader share."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np

from vqasr.errors import (
    CorruptStreamError,
    NotAStreamError,
    StreamError,
    TruncatedStreamError,
    UnsupportedVersionError,
)

SAMPLING_RATE_HZ = 16_000
FORMAT_VERSION = 1
FINGERPRINT_BYTES = 6
SEQUENCE_NUMBERS = 65_536  # chunks are numbered modulo this
CHUNK_START = struct.Struct("<HH")  # frames, sequence
END_START = struct.Struct("<HI")  # frames = 0, samples
CHECKSUM = struct.Struct("<I")

MAGIC = b"VQS"
_HEADER = struct.Struct("<3sB6sBBH")
HEADER_BYTES = _HEADER.size


@dataclass(frozen=True)
class StreamHeader:
    """What a reader has to know before the first code. StreamError when a field is out of range.

    fingerprint: 6 bytes that name the codec (its weights). num_quantizers: codebooks used, 1..255.
    bits_per_code: ceil(log2(codebook size)), 1..16. hop_length: samples per frame, 1..65535.
    """

    fingerprint: bytes
    num_quantizers: int
    bits_per_code: int
    hop_length: int

    def __post_init__(self) -> None:
        if not isinstance(self.fingerprint, bytes) or len(self.fingerprint) != FINGERPRINT_BYTES:
            raise StreamError(
                f"fingerprint must be {FINGERPRINT_BYTES} bytes, not {self.fingerprint!r}."
            )
        check_integer("num_quantizers", self.num_quantizers, 1, 255)
        check_integer("bits_per_code", self.bits_per_code, 1, 16)
        check_integer("hop_length", self.hop_length, 1, 65535)

    def to_bytes(self) -> bytes:
        """The 14 header bytes."""
        return _HEADER.pack(
            MAGIC,
            FORMAT_VERSION,
            self.fingerprint,
            self.num_quantizers,
            self.bits_per_code,
            self.hop_length,
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> StreamHeader:
        """The header at the start of ``data``; later bytes are ignored.

        Raises NotAStreamError, UnsupportedVersionError, TruncatedStreamError (fewer than 14
        bytes) or CorruptStreamError (a field out of range).
        """
        if data[:3] != MAGIC:
            found = f"begins with {data[:3].hex(' ')}" if data else "is empty"
            raise NotAStreamError(f"Not a .vqs stream: it {found}, not with {MAGIC.hex(' ')}.")
        if len(data) > 3 and data[3] != FORMAT_VERSION:
            raise UnsupportedVersionError(
                f"The stream has format version {data[3]}, but this vqasr reads version "
                f"{FORMAT_VERSION} only; a newer vqasr may read it."
            )
        if len(data) < HEADER_BYTES:
            raise TruncatedStreamError(
                f"The stream ends inside its header, after {len(data)} of {HEADER_BYTES} bytes; "
                "nothing could be recovered."
            )
        _, _, *fields = _HEADER.unpack_from(data)
        try:
            return cls(*fields)
        except StreamError as error:
            raise CorruptStreamError(f"The stream's header is damaged: {error}") from error

    def checksum(self, chunk: bytes) -> bytes:
        """The 4 bytes that follow ``chunk`` in the stream: CRC-32 of this header and the chunk."""
        return CHECKSUM.pack(zlib.crc32(chunk, zlib.crc32(self.to_bytes())))


def check_integer(name: str, value: int, lowest: int, highest: int) -> None:
    """Raise StreamError, with ``name`` in its message, unless lowest <= value <= highest."""
    if not isinstance(value, int | np.integer) or not lowest <= value <= highest:
        raise StreamError(f"{name} must be an integer from {lowest} to {highest}, not {value!r}.")
