"""The header of a ``.vqs`` stream (docs/stream-format.md), of formats 1, 2 and 3."""

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

SAMPLING_RATE_HZ = 16_000
FORMAT_VERSION = 2
SINGLE_VERSION = 3  # an utterance shorter than a chunk
HEADER_BYTES = 14  # of formats 1 and 2
SINGLE_HEADER_BYTES = 10  # of format 3: neither stream id nor a checksum of its own
CODEC_BYTES = 3  # of the codec's fingerprint, but in format 1
PRIOR_BYTES = 2
NO_PRIOR = bytes(PRIOR_BYTES)
HOP_UNIT = 160  # samples, 10 ms
# What 4 bits can say about the length of a chunk; at 25 frames a second 0.04 s to 2 minutes.
CHUNK_FRAMES = (1, 2, 5, 10, 15, 25, 50, 75, 125, 250, 375, 500, 625, 750, 1500, 3000)
# At 25 Hz 10 s, and 30 s, which is what a Whisper hears at once.
DEFAULT_CHUNK_FRAMES = 250
LONGEST_WHOLE_FRAMES = 750

_MAGIC = b"VQ"
_MAGIC_1 = b"VQS\x01"
_FORMAT_1 = struct.Struct("<4x6sBBH")
_FORMAT_2 = struct.Struct("<2sB3s2sBBH")
_CHECKSUM = struct.Struct("<H")


@dataclass(frozen=True)
class StreamHeader:
    """What a reader has to know before the first code. StreamError when a field is out of range.

    fingerprint: names the codec (its weights); 3 bytes, in format 1 6. prior_fingerprint: 2 bytes
    that name the prior, zeros without one. num_quantizers: codebooks used, 1..16. bits_per_code:
    ceil(log2(codebook size)), 1..16. hop_length: samples per frame, a multiple of 160 up to 2560.
    chunk_frames: one of ``CHUNK_FRAMES``. stream_id: 0..65535, tells streams apart.

    Format 3 has no stream_id (it is 0). Format 1 has neither prior, chunk_frames nor stream_id
    (they are as by default), 1..255 codebooks and any hop_length to 65535.
    """

    fingerprint: bytes
    num_quantizers: int
    bits_per_code: int
    hop_length: int
    chunk_frames: int = DEFAULT_CHUNK_FRAMES
    prior_fingerprint: bytes = NO_PRIOR
    stream_id: int = 0
    version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        old = self.version == 1
        for name, size in (
            ("fingerprint", 6 if old else CODEC_BYTES),
            ("prior_fingerprint", PRIOR_BYTES),
        ):
            value = getattr(self, name)
            if not isinstance(value, bytes) or len(value) != size:
                raise StreamError(f"{name} must be {size} bytes, not {value!r}.")
        check_integer("num_quantizers", self.num_quantizers, 1, 255 if old else 16)
        check_integer("bits_per_code", self.bits_per_code, 1, 16)
        check_integer("hop_length", self.hop_length, 1, 65535)
        check_integer("stream_id", self.stream_id, 0, 65535)
        if not old and (self.hop_length % HOP_UNIT or self.hop_length > 16 * HOP_UNIT):
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

    def names_codec(self, fingerprint: bytes) -> bool:
        """Whether the stream was written by the codec of that (6-byte) fingerprint."""
        return fingerprint.startswith(self.fingerprint)

    @property
    def size_bytes(self) -> int:
        """Of `to_bytes`."""
        return SINGLE_HEADER_BYTES if self.version == SINGLE_VERSION else HEADER_BYTES

    def to_bytes(self) -> bytes:
        """The 14 header bytes, CRC included; in format 3 10 bytes."""
        if self.version == 1:
            fields = (self.fingerprint, self.num_quantizers, self.bits_per_code, self.hop_length)
            return _MAGIC_1 + _FORMAT_1.pack(*fields)[len(_MAGIC_1) :]
        start = _FORMAT_2.pack(
            _MAGIC,
            self.version,
            self.fingerprint,
            self.prior_fingerprint,
            (self.num_quantizers - 1) << 4 | (self.bits_per_code - 1),
            (self.hop_length // HOP_UNIT - 1) << 4 | CHUNK_FRAMES.index(self.chunk_frames),
            self.stream_id,
        )
        if self.version == SINGLE_VERSION:
            return start[:SINGLE_HEADER_BYTES]
        return start + _CHECKSUM.pack(binascii.crc_hqx(start, 0xFFFF))

    @classmethod
    def from_bytes(cls, data: bytes) -> StreamHeader:
        """The header at the start of ``data``; later bytes are ignored.

        Raises NotAStreamError, UnsupportedVersionError, TruncatedStreamError (fewer than 14
        bytes, in format 3 10) or CorruptStreamError (wrong CRC, in format 1 a field out of range).
        """
        data = bytes(data[:HEADER_BYTES])
        if not is_stream(data):
            found = f"begins with {data[:4].hex(' ')}" if data else "is empty"
            raise NotAStreamError(
                f"Not a .vqs stream: it {found}, not with {_MAGIC.hex(' ')} and a version."
            )
        version = 1 if data[2:3] == b"S" else data[2]
        if version > SINGLE_VERSION:
            raise UnsupportedVersionError(
                f"The stream has format version {version}, but this vqasr reads versions 1 to "
                f"{SINGLE_VERSION}; a newer vqasr may read it."
            )
        size = SINGLE_HEADER_BYTES if version == SINGLE_VERSION else HEADER_BYTES
        if len(data) < size:
            raise TruncatedStreamError(
                f"The stream ends inside its header, after {len(data)} of {size} bytes; "
                "nothing could be recovered."
            )
        try:
            return cls._format_1(data) if version == 1 else cls._format_2_or_3(data, version)
        except StreamError as error:
            raise CorruptStreamError(f"The stream's header is damaged: {error}") from error

    @classmethod
    def _format_1(cls, data: bytes) -> StreamHeader:
        codec, num_quantizers, bits_per_code, hop_length = _FORMAT_1.unpack(data)
        return cls(codec, num_quantizers, bits_per_code, hop_length, version=1)

    @classmethod
    def _format_2_or_3(cls, data: bytes, version: int) -> StreamHeader:
        start = data[: _FORMAT_2.size]
        if version == SINGLE_VERSION:
            start = data[:SINGLE_HEADER_BYTES] + bytes(2)
        elif _CHECKSUM.pack(binascii.crc_hqx(start, 0xFFFF)) != data[_FORMAT_2.size :]:
            raise StreamError("its checksum does not match.")
        _, _, codec, prior, sizes, timing, stream_id = _FORMAT_2.unpack(start)
        return cls(
            fingerprint=codec,
            num_quantizers=(sizes >> 4) + 1,
            bits_per_code=(sizes & 15) + 1,
            hop_length=((timing >> 4) + 1) * HOP_UNIT,
            chunk_frames=CHUNK_FRAMES[timing & 15],
            prior_fingerprint=prior,
            stream_id=stream_id,
            version=version,
        )


def is_stream(start: bytes) -> bool:
    """Whether a file that begins with these (at least 4) bytes is a ``.vqs`` stream, or claims it.

    The third byte is the version, below 32; format 1 has an S there and its version behind it.
    """
    if start[:3] == _MAGIC_1[:3]:
        return len(start) < 4 or start[3] == 1
    return start[:2] == _MAGIC and len(start) > 2 and 2 <= start[2] < 32


def usual_chunk_frames(frames: int) -> int:
    """Chunks of a recording that is written as a whole: one below 30 s (at 25 Hz), else of 10 s."""
    return LONGEST_WHOLE_FRAMES if frames < LONGEST_WHOLE_FRAMES else DEFAULT_CHUNK_FRAMES


def check_integer(name: str, value: int, lowest: int, highest: int) -> None:
    """Raise StreamError, with ``name`` in its message, unless lowest <= value <= highest."""
    if not isinstance(value, int | np.integer) or not lowest <= value <= highest:
        raise StreamError(f"{name} must be an integer from {lowest} to {highest}, not {value!r}.")
