"""The header of a ``.vqs`` stream (docs/stream-format.md)."""

from __future__ import annotations

import binascii
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vqasr.errors import (
    CodecMismatchError,
    CorruptStreamError,
    InvalidCodesError,
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
# The lengths that 4 bits encode; at 25 frames a second 0.04 s to 2 minutes.
CHUNK_FRAMES = (1, 2, 5, 10, 15, 25, 50, 75, 125, 250, 375, 500, 625, 750, 1500, 3000)
# At 25 Hz 10 s, and 30 s, one window of Whisper.
DEFAULT_CHUNK_FRAMES = 250
LONGEST_WHOLE_FRAMES = 750

_MAGIC = b"VQ"
_SINGLE = 0x80  # flag beside the version
_PITCH = 0x40  # another
_VERSIONS = 0x1F
_FIELDS = struct.Struct("<2sB3s2sBBH")


@dataclass(frozen=True)
class StreamHeader:
    """Describe the codes of a stream.

    Attributes:
        fingerprint: 3 bytes that name the codec (its weights).
        num_quantizers: codebooks used, 1 to 16.
        bits_per_code: ceil(log2(codebook size)), 1 to 16.
        hop_length: samples of a frame, a multiple of 160 up to 2560.
        chunk_frames: frames in a chunk, one of ``CHUNK_FRAMES``.
        prior_fingerprint: 2 bytes that name the prior, zeros without one.
        stream_id: 0 to 65535, tells streams apart; 0 in a single chunk.
        single: the stream is one chunk, shorter than `chunk_frames`, without fields of its own.
        pitch: each frame has a code of its fundamental frequency.

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
    pitch: bool = False

    def __post_init__(self) -> None:
        for name, size in (("fingerprint", CODEC_BYTES), ("prior_fingerprint", PRIOR_BYTES)):
            value = getattr(self, name)
            if not isinstance(value, bytes) or len(value) != size:
                raise StreamError(f"{name} must be {size} bytes, not {value!r}.")
        check_integer("num_quantizers", self.num_quantizers, range(1, 17))
        check_integer("bits_per_code", self.bits_per_code, range(1, 17))
        check_integer("hop_length", self.hop_length, range(HOP_UNIT, 16 * HOP_UNIT + 1, HOP_UNIT))
        check_integer("chunk_frames", self.chunk_frames, CHUNK_FRAMES)
        check_integer("stream_id", self.stream_id, range(65_536))

    @property
    def chunk_s(self) -> float:
        """Length of every chunk but the last in seconds."""
        return self.chunk_frames * self.hop_length / SAMPLING_RATE_HZ

    def check_trim(self, num_quantizers: int) -> None:
        """Raise InvalidCodesError unless so many first codebooks can be kept."""
        if not 1 <= num_quantizers <= self.num_quantizers:
            raise InvalidCodesError(
                f"num_quantizers={num_quantizers}, but the stream holds {self.num_quantizers} "
                f"codebooks; 1 to {self.num_quantizers} can be kept."
            )

    def names_codec(self, fingerprint: bytes) -> bool:
        """Return whether the codec with this 6-byte fingerprint wrote the stream."""
        return fingerprint.startswith(self.fingerprint)

    def check_codec(self, fingerprint: bytes) -> None:
        """Raise CodecMismatchError unless the codec with this fingerprint wrote the stream."""
        if not self.names_codec(fingerprint):
            raise CodecMismatchError(
                f"The stream was written by codec {self.fingerprint.hex()}, not by "
                f"{fingerprint.hex()}; load the codec, or the adapter for the codec, that wrote "
                "it, or encode the audio again with this one."
            )

    def to_bytes(self) -> bytes:
        """Pack 14 bytes, CRC included; for a single chunk 10."""
        fields = _FIELDS.pack(
            _MAGIC,
            FORMAT_VERSION | _SINGLE * self.single | _PITCH * self.pitch,
            self.fingerprint,
            self.prior_fingerprint,
            (self.num_quantizers - 1) << 4 | (self.bits_per_code - 1),
            (self.hop_length // HOP_UNIT - 1) << 4 | CHUNK_FRAMES.index(self.chunk_frames),
            self.stream_id,
        )
        return fields[:SINGLE_HEADER_BYTES] if self.single else fields + _checksum(fields)

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
            if not data:
                raise NotAStreamError("Not a .vqs stream, as vqasr encode writes: it is empty.")
            raise NotAStreamError(
                f"Not a .vqs stream, as vqasr encode writes: it begins with {data[:4].hex(' ')}, "
                f"not with {_MAGIC.hex(' ')} and a version."
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
        if not single and data[_FIELDS.size :] != _checksum(fields):
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
            pitch=bool(data[2] & _PITCH),
        )


def is_stream(start: bytes) -> bool:
    """Return whether a file with these first (at least 3) bytes claims to be a ``.vqs`` stream.

    The third byte is the version, 1 to 31, perhaps with the flags of a single chunk and of pitch.
    """
    if start[:2] != _MAGIC or len(start) < 3:
        return False
    return 0 < start[2] & ~_SINGLE & ~_PITCH <= _VERSIONS


def usual_chunk_frames(frames: int) -> int:
    """Return the default chunk length: one chunk below 30 s (at 25 Hz), else chunks of 10 s."""
    return LONGEST_WHOLE_FRAMES if frames < LONGEST_WHOLE_FRAMES else DEFAULT_CHUNK_FRAMES


def check_integer(name: str, value: int, allowed: Sequence[int]) -> None:
    """Raise StreamError unless ``value`` is one of the ``allowed`` integers."""
    if not isinstance(value, int | np.integer) or int(value) not in allowed:
        numbers = str(allowed)
        if isinstance(allowed, range):
            numbers = f"{allowed[0]}, {allowed[1]}, ..., {allowed[-1]}"
        raise StreamError(f"{name} must be one of the integers {numbers}, not {value!r}.")


def _checksum(fields: bytes) -> bytes:
    return binascii.crc_hqx(fields, 0xFFFF).to_bytes(2, "little")
