"""One chunk as bytes: who it belongs to, where it stands, what it holds."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from vqasr.entropy.packing import packed_size_bytes
from vqasr.entropy.payload import least_coded_bytes
from vqasr.stream.header import StreamHeader

SEQUENCE_NUMBERS = 65_536  # chunks are numbered modulo this
MAX_PAYLOAD_BYTES = (1 << 14) - 1

_START = struct.Struct("<BHH")  # stream id (low byte), sequence, flags and size
_CHECKSUM = struct.Struct("<I")
_CODED = 1 << 15
_LAST = 1 << 14
_LAST_FIELD_BITS = 12
_ABORTED = (1 << _LAST_FIELD_BITS) - 1
LAST_BYTES = 3
START_BYTES = _START.size
CHECKSUM_BYTES = _CHECKSUM.size
OVERHEAD_BYTES = START_BYTES + CHECKSUM_BYTES


@dataclass(frozen=True)
class EndField:
    """How a stream ends; attributes as `Chunk.last_frames` and `Chunk.unused_samples`."""

    frames: int
    unused_samples: int | None

    def to_bytes(self) -> bytes:
        """3 bytes."""
        unused = _ABORTED if self.unused_samples is None else self.unused_samples
        return (self.frames | unused << _LAST_FIELD_BITS).to_bytes(LAST_BYTES, "little")

    @classmethod
    def from_bytes(cls, data: bytes) -> EndField:
        """Of 3 bytes."""
        field = int.from_bytes(data, "little")
        frames, unused = field & _ABORTED, field >> _LAST_FIELD_BITS
        return cls(frames, None if unused == _ABORTED else unused)


@dataclass(frozen=True)
class Chunk:
    """A chunk whose checksum was right, or that is about to get one.

    Attributes:
        number: 0, 1, 2, ...; the stream holds it modulo 65536, its checksum covers all of it.
        payload: codes, range-coded or packed.
        coded: whether they are range-coded.
        last_frames: in the last chunk; None in all others, which are full.
        unused_samples: of the last chunk, how many samples before the end of its (if it is empty,
            of its predecessor's) last frame the audio ends; None if the writer was interrupted.
    """

    number: int
    payload: bytes
    coded: bool
    last_frames: int | None = None
    unused_samples: int | None = 0

    def frames(self, header: StreamHeader) -> int:
        """Frames in this chunk."""
        return header.chunk_frames if self.last_frames is None else self.last_frames

    @property
    def total_bytes(self) -> int:
        """Of the whole chunk, checksum included."""
        return OVERHEAD_BYTES + LAST_BYTES * (self.last_frames is not None) + len(self.payload)

    def to_bytes(self, header: StreamHeader, seed: int) -> bytes:
        """The chunk with its checksum; seed: of `checksum_seed`."""
        flags = _CODED * self.coded | _LAST * (self.last_frames is not None)
        sequence = self.number % SEQUENCE_NUMBERS
        data = _START.pack(header.stream_id & 0xFF, sequence, flags | len(self.payload))
        if self.last_frames is not None:
            data += EndField(self.last_frames, self.unused_samples).to_bytes()
        data += self.payload
        return data + _checksum(seed, self.number, data)


@dataclass(frozen=True)
class ChunkStart:
    """The fields in front of a payload, not yet verified."""

    sequence: int
    coded: bool
    last: bool
    payload_bytes: int

    @classmethod
    def read(cls, data: bytes, header: StreamHeader) -> ChunkStart | None:
        """Of the `START_BYTES` bytes `data`; None where no chunk of this stream begins so."""
        stream_id, sequence, field = _START.unpack(data)
        coded, last, size = bool(field & _CODED), bool(field & _LAST), field & MAX_PAYLOAD_BYTES
        if stream_id != header.stream_id & 0xFF:
            return None
        codes = header.chunk_frames * header.num_quantizers
        largest = packed_size_bytes(codes, header.bits_per_code)
        smallest = least_coded_bytes(codes) if coded else largest
        if size > largest or (size < smallest and not last):
            return None
        return cls(sequence, coded, last, size)

    @property
    def total_bytes(self) -> int:
        """Of the whole chunk, checksum included."""
        return OVERHEAD_BYTES + LAST_BYTES * self.last + self.payload_bytes

    def chunk(self, data: bytes, header: StreamHeader, seed: int, number: int) -> Chunk | None:
        """The chunk out of its `total_bytes` bytes; None unless checksum and sizes are right.

        number: the chunk that this one would be.
        """
        body = data[:-CHECKSUM_BYTES]
        if _checksum(seed, number, body) != data[-CHECKSUM_BYTES:]:
            return None
        payload = body[START_BYTES:]
        last_frames: int | None = None
        unused: int | None = 0
        if self.last:
            end = EndField.from_bytes(payload[:LAST_BYTES])
            payload = payload[LAST_BYTES:]
            last_frames, unused = end.frames, end.unused_samples
            if last_frames >= header.chunk_frames:
                return None
            if unused is not None and unused >= header.hop_length:
                return None
        chunk = Chunk(number, payload, self.coded, last_frames, unused)
        codes = chunk.frames(header) * header.num_quantizers
        fits = payload_fits(len(payload), codes, header.bits_per_code, self.coded)
        return chunk if fits else None


def payload_fits(size: int, codes: int, bits_per_code: int, coded: bool) -> bool:
    """Whether a payload of so many bytes can hold so many codes."""
    packed = packed_size_bytes(codes, bits_per_code)
    return least_coded_bytes(codes) <= size < packed if coded else size == packed


def checksum_seed(header: StreamHeader, prior_fingerprint: bytes) -> int:
    """What the checksums of a stream begin with, so that they cover header and prior.

    prior_fingerprint: all 6 bytes, of which the header holds 2; empty without a prior.
    """
    return zlib.crc32(prior_fingerprint, zlib.crc32(header.to_bytes()))


def _checksum(seed: int, number: int, data: bytes) -> bytes:
    return _CHECKSUM.pack(zlib.crc32(data, zlib.crc32(struct.pack("<I", number), seed)))
