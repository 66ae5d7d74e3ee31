"""Chunks of a stream as bytes, and streams of a single chunk."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from vqasr.entropy.packing import packed_size_bytes
from vqasr.entropy.payload import least_coded_bytes
from vqasr.entropy.pitch import most_pitch_bytes
from vqasr.entropy.prior import CodePrior
from vqasr.errors import CorruptStreamError, StreamError
from vqasr.stream.header import SINGLE_HEADER_BYTES, StreamHeader

SEQUENCE_NUMBERS = 65_536  # chunks are numbered modulo this
MAX_PAYLOAD_BYTES = (1 << 14) - 1

_START = struct.Struct("<BHH")  # stream id (low byte), sequence, flags and size
_NUMBER = struct.Struct("<I")
_CODED = 1 << 15
_LAST = 1 << 14
_END_FIELD_BITS = 12
_ABORTED = (1 << _END_FIELD_BITS) - 1
END_BYTES = 3
START_BYTES = _START.size
CHECKSUM_BYTES = 4
OVERHEAD_BYTES = START_BYTES + CHECKSUM_BYTES
_SIZE_BYTES = 2  # at most, of the pitch's size
_MORE = 0x80  # flag of the first of two bytes
_LOST = (
    "nothing could be recovered: it is one chunk, which is lost as a whole. Get it again, or "
    "encode the audio again; `vqasr encode --chunk-s 1` writes chunks that are lost one by one."
)
SINGLE_OVERHEAD_BYTES = SINGLE_HEADER_BYTES + END_BYTES + CHECKSUM_BYTES


@dataclass(frozen=True)
class EndField:
    """Describe how a stream ends.

    Attributes:
        frames: in the last chunk, fewer than in the others.
        unused_samples: between the end of the audio and the end of the stream's last frame; None
            if the writer was interrupted.
    """

    frames: int
    unused_samples: int | None

    def to_bytes(self) -> bytes:
        """Pack 3 bytes."""
        unused = _ABORTED if self.unused_samples is None else self.unused_samples
        return (self.frames | unused << _END_FIELD_BITS).to_bytes(END_BYTES, "little")

    @classmethod
    def from_bytes(cls, data: bytes) -> EndField:
        """Unpack 3 bytes."""
        field = int.from_bytes(data, "little")
        frames, unused = field & _ABORTED, field >> _END_FIELD_BITS
        return cls(frames, None if unused == _ABORTED else unused)


@dataclass(frozen=True)
class Chunk:
    """Hold a chunk that was verified, or is to be written.

    Attributes:
        number: 0, 1, 2, ...; the stream holds it modulo 65536, the checksum covers all of it.
        payload: codes, range-coded or packed.
        coded: whether they are range-coded.
        end: of the last chunk; None in all others, which are full.
        pitch: range-coded; None in a stream without pitch.
    """

    number: int
    payload: bytes
    coded: bool
    end: EndField | None = None
    pitch: bytes | None = None

    def frames(self, header: StreamHeader) -> int:
        """Return the number of frames."""
        return header.chunk_frames if self.end is None else self.end.frames

    @property
    def total_bytes(self) -> int:
        """Size of the whole chunk, checksum included."""
        return (
            OVERHEAD_BYTES
            + END_BYTES * (self.end is not None)
            + len(join_pitch(self.pitch, self.payload))
        )

    def is_consistent(self, header: StreamHeader) -> bool:
        """Return whether end field and payload size can belong to this header."""
        if self.end is not None and (
            self.end.frames >= header.chunk_frames
            or (self.end.unused_samples or 0) >= header.hop_length
        ):
            return False
        if header.pitch != (self.pitch is not None):
            return False
        if len(self.pitch or b"") > most_pitch_bytes(self.frames(header)):
            return False
        codes = self.frames(header) * header.num_quantizers
        packed = packed_size_bytes(codes, header.bits_per_code)
        if self.coded:
            return least_coded_bytes(codes) <= len(self.payload) < packed
        return len(self.payload) == packed

    @classmethod
    def from_bytes(cls, data: bytes, header: StreamHeader, seed: int, number: int) -> Chunk | None:
        """Unpack chunk `number` from exactly its bytes; None if checksum or sizes are wrong."""
        body = data[:-CHECKSUM_BYTES]
        if _crc(body, _NUMBER.pack(number), seed) != data[-CHECKSUM_BYTES:]:
            return None
        _, _, field = _START.unpack_from(body)
        payload, end = body[START_BYTES:], None
        if field & _LAST:
            end, payload = EndField.from_bytes(payload[:END_BYTES]), payload[END_BYTES:]
        pitch, payload = split_pitch(payload) if header.pitch else (None, payload)
        chunk = cls(number, payload, bool(field & _CODED), end, pitch)
        return chunk if chunk.is_consistent(header) else None

    def to_bytes(self, header: StreamHeader, seed: int) -> bytes:
        """Pack the chunk with its checksum; seed: see `checksum_seed`."""
        flags = _CODED * self.coded | _LAST * (self.end is not None)
        sequence = self.number % SEQUENCE_NUMBERS
        body = join_pitch(self.pitch, self.payload)
        data = _START.pack(header.stream_id & 0xFF, sequence, flags | len(body))
        if self.end is not None:
            data += self.end.to_bytes()
        data += body
        return data + _crc(data, _NUMBER.pack(self.number), seed)


def read_start(data: bytes, header: StreamHeader) -> tuple[int, int] | None:
    """Return sequence number and size in bytes of the chunk whose first `START_BYTES` are given.

    None where no chunk of this stream begins so.
    """
    stream_id, sequence, field = _START.unpack(data)
    size, last = field & MAX_PAYLOAD_BYTES, bool(field & _LAST)
    codes = header.chunk_frames * header.num_quantizers
    packed = packed_size_bytes(codes, header.bits_per_code)
    largest = largest_body_bytes(header)
    smallest = (least_coded_bytes(codes) if field & _CODED else packed) + header.pitch
    possible = size <= largest and (last or size >= smallest)
    if stream_id != header.stream_id & 0xFF or not possible:
        return None
    return sequence, OVERHEAD_BYTES + END_BYTES * last + size


def largest_body_bytes(header: StreamHeader) -> int:
    """Return a size that pitch and codes of a full chunk do not exceed."""
    codes = header.chunk_frames * header.num_quantizers
    packed = packed_size_bytes(codes, header.bits_per_code)
    return packed + header.pitch * (_SIZE_BYTES + most_pitch_bytes(header.chunk_frames))


def check_chunk_size(header: StreamHeader) -> None:
    """Raise StreamError if a full chunk could be too large for the format."""
    largest = largest_body_bytes(header)
    if largest > MAX_PAYLOAD_BYTES:
        raise StreamError(
            f"chunks of {header.chunk_frames} frames with {header.num_quantizers} codes of "
            f"{header.bits_per_code} bits may take {largest} bytes; at most {MAX_PAYLOAD_BYTES} "
            "are allowed. Use shorter chunks."
        )


def join_pitch(pitch: bytes | None, payload: bytes) -> bytes:
    """Put the pitch and its size, in one or two bytes, before the codes."""
    if pitch is None:
        return payload
    high, low = divmod(len(pitch), _MORE)
    return (bytes([_MORE | low, high]) if high else bytes([low])) + pitch + payload


def split_pitch(body: bytes) -> tuple[bytes | None, bytes]:
    """Undo `join_pitch`; None instead of the pitch where there is none."""
    two = bool(body) and body[0] >= _MORE
    begin = 2 if two else 1
    if len(body) < begin or (two and not body[1]):  # a size has one form alone
        return None, body
    size = body[0] % _MORE + (_MORE * body[1] if two else 0)
    pitch, payload = body[begin : begin + size], body[begin + size :]
    return (pitch, payload) if len(pitch) == size else (None, body)


def single_to_bytes(
    header: StreamHeader, body: bytes, end: EndField, prior: CodePrior | None
) -> bytes:
    """Pack a whole stream of a single chunk: an utterance shorter than a chunk.

    One checksum covers everything, and the payload ends where the file does: 17 bytes instead of
    the 26 that a header and a chunk take, 4 % of the bits of six seconds at 300 bit/s.
    """
    data = header.to_bytes() + end.to_bytes() + body
    return data + _crc(data, _fingerprint(prior))


def single_from_bytes(data: bytes, header: StreamHeader, prior: CodePrior | None) -> Chunk:
    """Unpack a single chunk from the bytes behind its header.

    Raises:
        CorruptStreamError: the checksum or a size is wrong.
    """
    body, checksum = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
    if len(body) < END_BYTES or checksum != _crc(header.to_bytes() + body, _fingerprint(prior)):
        raise CorruptStreamError(
            f"The stream is damaged: bytes are wrong, missing or behind its end; {_LOST}"
        )
    end, payload = EndField.from_bytes(body[:END_BYTES]), body[END_BYTES:]
    pitch, payload = split_pitch(payload) if header.pitch else (None, payload)
    packed = packed_size_bytes(end.frames * header.num_quantizers, header.bits_per_code)
    chunk = Chunk(0, payload, len(payload) != packed, end, pitch)
    complete = end.unused_samples is not None and (end.frames > 0 or end.unused_samples == 0)
    if not complete or not chunk.is_consistent(header):
        raise CorruptStreamError(f"The stream is damaged: its end contradicts its length; {_LOST}")
    return chunk


def checksum_seed(header: StreamHeader, prior: CodePrior | None) -> int:
    """Return the start value of a stream's checksums, so that they cover header and prior."""
    return zlib.crc32(_fingerprint(prior), zlib.crc32(header.to_bytes()))


def _fingerprint(prior: CodePrior | None) -> bytes:
    return b"" if prior is None else prior.fingerprint


def _crc(data: bytes, prefix: bytes, seed: int = 0) -> bytes:
    """CRC-32 of prefix and data."""
    return zlib.crc32(data, zlib.crc32(prefix, seed)).to_bytes(CHECKSUM_BYTES, "little")
