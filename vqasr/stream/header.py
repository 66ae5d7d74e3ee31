"""The header of a ``.vqs`` stream (docs/stream-format.md)."""

from __future__ import annotations

import binascii
import struct
from dataclasses import dataclass

import numpy as np

from vqasr.errors import (
    CorruptStreamError,
    NotAStreamError,
    StreamError,
    TruncatedStreamError,
    UnsupportedVersionError,
)
from vqasr.grid import SAMPLING_RATE_HZ

FORMAT_VERSION = 1
HEADER_BYTES = 14
SINGLE_HEADER_BYTES = 10  # of a single chunk: neither stream id nor a checksum of its own
CODEC_BYTES = 3  # of the codec's fingerprint
PRIOR_BYTES = 2
NO_PRIOR = bytes(PRIOR_BYTES)
HOP_UNIT = 160  # samples, 10 ms
# What 4 bits can say about the length of a chunk; at 25 frames a second 0.04 s to 2 minutes.
CHUNK_FRAMES = (1, 2, 5, 10, 15, 25, 50, 75, 125, 250, 375, 500, 625, 750, 1500, 3000)
# At 25 Hz 10 s, and 30 s, which is what a Whisper reads at once.
DEFAULT_CHUNK_FRAMES = 250
LONGEST_WHOLE_FRAMES = 750

_MAGIC = b"VQ"
_SINGLE = 0x80  # flag beside the version
_VERSIONS = 0x1F
_FIELDS = struct.Struct("<2sB3s2sBBH")
_CHECKSUM = struct.Struct("<H")


@dataclass(frozen=True)
class StreamHeader:
    """What a reader has to know before the first code.

    Attributes:
        fingerprint: 3 bytes that name the codec (its weights).
        num_quantizers: codebooks used, 1 to 16.
        bits_per_code: ceil(log2(codebook size)), 1 to 16.
        hop_length: samples of a frame, a multiple of 160 up to 2560.
        chunk_frames: frames in a chunk, one of ``CHUNK_FRAMES``.
        prior_fingerprint: 2 bytes that name the prior, zeros without one.
        stream_id: 0 to 65535, tells streams apart; 0 in a single chunk.
        single: the stream is one chunk, shorter than `chunk_frames`, without fields of its own.

    Raises:
        StreamError: a field is out of range.
    """

    fingerprint: bytes
    num_quantizers: int
    bits_per_code: int
    hop_length: int
    chunk_frames: int = DEFAULT_CHUNK_FRAMES
    prior_fingerprint: bytes = NO_PRIOR
    stream_id: int = 0
    single: bool = False

    def __post_init__(self) -> None:
        for name, size in (("fingerprint", CODEC_BYTES), ("prior_fingerprint", PRIOR_BYTES)):
            value = getattr(self, name)
            if not isinstance(value, bytes) or len(value) != size:
                raise StreamError(f"{name} must be {size} bytes, not {value!r}.")
        check_integer("num_quantizers", self.num_quantizers, 1, 16)
        check_integer("bits_per_code", self.bits_per_code, 1, 16)
        check_integer("hop_length", self.hop_length, 1, 65535)
        check_integer("stream_id", self.stream_id, 0, 65535)
        if self.hop_length % HOP_UNIT or self.hop_length > 16 * HOP_UNIT:
            raise StreamError(
                f"hop_length must be a multiple of {HOP_UNIT} up to {16 * HOP_UNIT}, not "
                f"{self.hop_length}."
            )
        whole = isinstance(self.chunk_frames, int | np.integer)
        if not whole or self.chunk_frames not in CHUNK_FRAMES:
            raise StreamError(f"chunk_frames must be in {CHUNK_FRAMES}, not {self.chunk_frames!r}.")

    @property
    def chunk_s(self) -> float:
        """Seconds of audio in every chunk but the last."""
        return self.chunk_frames * self.hop_length / SAMPLING_RATE_HZ

    @property
    def size_bytes(self) -> int:
        """Size of `to_bytes`."""
        return SINGLE_HEADER_BYTES if self.single else HEADER_BYTES

    def names_codec(self, fingerprint: bytes) -> bool:
        """Whether the stream was written by the codec of that (6-byte) fingerprint."""
        return fingerprint.startswith(self.fingerprint)

    def to_bytes(self) -> bytes:
        """Pack 14 bytes, CRC included; for a single chunk 10."""
        fields = _FIELDS.pack(
            _MAGIC,
            FORMAT_VERSION | _SINGLE * self.single,
            self.fingerprint,
            self.prior_fingerprint,
            (self.num_quantizers - 1) << 4 | (self.bits_per_code - 1),
            (self.hop_length // HOP_UNIT - 1) << 4 | CHUNK_FRAMES.index(self.chunk_frames),
            self.stream_id,
        )
        if self.single:
            return fields[:SINGLE_HEADER_BYTES]
        return fields + _CHECKSUM.pack(binascii.crc_hqx(fields, 0xFFFF))

    @classmethod
    def from_bytes(cls, data: bytes) -> StreamHeader:
        """Unpack the header at the start of ``data``; later bytes are ignored.

        Raises:
            NotAStreamError: another kind of file.
            UnsupportedVersionError: written by a newer vqasr.
            TruncatedStreamError: fewer than 14 bytes, for a single chunk 10.
            CorruptStreamError: the CRC is wrong.
        """
        data = bytes(data[:HEADER_BYTES])
        if not is_stream(data):
            found = f"begins with {data[:4].hex(' ')}" if data else "is empty"
            raise NotAStreamError(
                f"Not a .vqs stream: it {found}, not with {_MAGIC.hex(' ')} and a version."
            )
        version, single = data[2] & _VERSIONS, bool(data[2] & _SINGLE)
        if version != FORMAT_VERSION:
            raise UnsupportedVersionError(
                f"The stream has format version {version}, but this vqasr reads version "
                f"{FORMAT_VERSION}; a newer vqasr may read it."
            )
        size = SINGLE_HEADER_BYTES if single else HEADER_BYTES
        if len(data) < size:
            raise TruncatedStreamError(
                f"The stream ends inside its header, after {len(data)} of {size} bytes; "
                "nothing could be recovered."
            )
        fields = data[:SINGLE_HEADER_BYTES] + bytes(2) if single else data[: _FIELDS.size]
        if not single and data[_FIELDS.size :] != _CHECKSUM.pack(binascii.crc_hqx(fields, 0xFFFF)):
            raise CorruptStreamError(
                "The stream's header is damaged: its checksum does not match; nothing could be "
                "recovered."
            )
        _, _, codec, prior, sizes, timing, stream_id = _FIELDS.unpack(fields)
        return cls(
            fingerprint=codec,
            num_quantizers=(sizes >> 4) + 1,
            bits_per_code=(sizes & 15) + 1,
            hop_length=((timing >> 4) + 1) * HOP_UNIT,
            chunk_frames=CHUNK_FRAMES[timing & 15],
            prior_fingerprint=prior,
            stream_id=stream_id,
            single=single,
        )


def is_stream(start: bytes) -> bool:
    """Whether a file that begins with these (at least 3) bytes is a ``.vqs`` stream, or claims it.

    The third byte is the version, 1 to 31, perhaps with the flag of a single chunk.
    """
    if start[:2] != _MAGIC or len(start) < 3:
        return False
    return 0 < start[2] & ~_SINGLE <= _VERSIONS


def usual_chunk_frames(frames: int) -> int:
    """Chunks of a recording that is written as a whole: one below 30 s (at 25 Hz), else of 10 s."""
    return LONGEST_WHOLE_FRAMES if frames < LONGEST_WHOLE_FRAMES else DEFAULT_CHUNK_FRAMES


def check_integer(name: str, value: int, lowest: int, highest: int) -> None:
    """Raise StreamError, with ``name`` in its message, unless lowest <= value <= highest."""
    if not isinstance(value, int | np.integer) or not lowest <= value <= highest:
        raise StreamError(f"{name} must be an integer from {lowest} to {highest}, not {value!r}.")
