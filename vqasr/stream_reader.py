"""Reading a ``.vqs`` stream chunk by chunk (docs/stream-format.md)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vqasr.bitpack import packed_size_bytes, padding_is_zero, unpack_codes
from vqasr.errors import (
    CodecMismatchError,
    CorruptStreamError,
    StreamError,
    TruncatedStreamError,
)
from vqasr.stream_header import (
    CHECKSUM,
    CHUNK_START,
    END_START,
    HEADER_BYTES,
    SAMPLING_RATE_HZ,
    SEQUENCE_NUMBERS,
    StreamHeader,
)

_FRAMES = struct.Struct("<H")  # what every chunk begins with
_READ_PIECE_BYTES = 1 << 16


class ReadableFile(Protocol):
    """A blocking binary source; nothing but ``read`` is used, so it need not be seekable."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none only at the end."""


@dataclass(frozen=True, eq=False)
class Stream:
    """One utterance's codes, int64 of shape (num_quantizers, frames), and its length in samples."""

    header: StreamHeader
    codes: npt.NDArray[np.int64]
    samples: int

    @property
    def frames(self) -> int:
        """Number of frames."""
        return int(self.codes.shape[1])

    @property
    def seconds(self) -> float:
        """Length of the audio in seconds."""
        return self.samples / SAMPLING_RATE_HZ

    @property
    def nominal_bits(self) -> int:
        """Bits of the codes alone, without header, chunk fields, checksums and padding."""
        return self.frames * self.header.num_quantizers * self.header.bits_per_code


class StreamReader:
    """Reads a stream chunk by chunk from a binary file object; never seeks, and never closes it.

    ``samples`` (audio length at 16 kHz) is None until the end chunk has been read.
    """

    def __init__(self, file: ReadableFile, fingerprint: bytes | None = None) -> None:
        """Read the header. fingerprint: that of the codec at hand, to refuse other streams.

        Raises what ``StreamHeader.from_bytes`` raises, or CodecMismatchError.
        """
        self.bits_read = 0
        self.frames = 0
        self.samples: int | None = None
        self._file = file
        self._started = False
        self.header = StreamHeader.from_bytes(self._read(HEADER_BYTES))
        if fingerprint is not None and fingerprint != self.header.fingerprint:
            raise CodecMismatchError(
                f"The stream was written by codec {self.header.fingerprint.hex()}, but the codec "
                f"at hand is {fingerprint.hex()}; load the codec that wrote it, or encode the "
                "audio again with this one."
            )

    def chunks(self) -> Iterator[npt.NDArray[np.int64]]:
        """Yield the codes of each verified chunk, int64 of shape (num_quantizers, frames).

        Can be used once. Raises TruncatedStreamError or CorruptStreamError after the last intact
        chunk; ``stream`` is None on them, as the caller has already been given those chunks.
        """
        if self._started:
            raise StreamError("This reader has been used; open the stream again.")
        self._started = True
        quantizers, bits_per_code = self.header.num_quantizers, self.header.bits_per_code
        sequence = 0
        while frames := _FRAMES.unpack(start := self._read_all(_FRAMES.size))[0]:
            start += self._read_all(CHUNK_START.size - len(start))
            payload = self._read_all(packed_size_bytes(frames * quantizers, bits_per_code))
            self._verify(start + payload)
            found_sequence = CHUNK_START.unpack(start)[1]
            if found_sequence != sequence:
                raise self._corrupt(f"chunk {found_sequence} stands where {sequence} should")
            if not padding_is_zero(payload, frames * quantizers, bits_per_code):
                raise self._corrupt("the padding bits of a chunk are not zero")
            self.frames += frames
            sequence = (sequence + 1) % SEQUENCE_NUMBERS
            codes = unpack_codes(payload, frames * quantizers, bits_per_code)
            yield np.ascontiguousarray(codes.reshape(frames, quantizers).T)
        self._read_end(start)

    def read(self) -> Stream:
        """The whole stream.

        Raises TruncatedStreamError or CorruptStreamError, with the part before the damage.
        """
        parts = [np.empty((self.header.num_quantizers, 0), dtype=np.int64)]
        try:
            for codes in self.chunks():
                parts.append(codes)
        except (TruncatedStreamError, CorruptStreamError) as error:
            if self.frames or isinstance(error, TruncatedStreamError):
                error.stream = self._stream(parts)
            raise
        return self._stream(parts)

    def _stream(self, parts: list[npt.NDArray[np.int64]]) -> Stream:
        samples = self.frames * self.header.hop_length if self.samples is None else self.samples
        return Stream(self.header, np.concatenate(parts, axis=1), samples)

    def _read_end(self, start: bytes) -> None:
        end = start + self._read_all(END_START.size - len(start))
        self._verify(end)
        samples = END_START.unpack(end)[1]
        if -(-samples // self.header.hop_length) != self.frames:
            raise self._corrupt(f"its end names {samples} samples, which do not match the frames")
        self.samples = samples
        if self._read(1):
            raise self._corrupt("there are bytes after its end")

    def _verify(self, chunk: bytes) -> None:
        if self._read_all(CHECKSUM.size) != self.header.checksum(chunk):
            raise self._corrupt("a checksum does not match")

    def _read_all(self, size: int) -> bytes:
        data = self._read(size)
        if len(data) < size:
            raise TruncatedStreamError(f"The stream ends before its end chunk; {self._recovered()}")
        return data

    def _read(self, size: int) -> bytes:
        # In pieces: a file may return less than asked, and some allocate all that is asked for,
        # which a damaged header could drive up to 32 MiB for a file of a few bytes.
        data = bytearray()
        while len(data) < size:
            piece = self._file.read(min(size - len(data), _READ_PIECE_BYTES))
            if not piece:
                break
            data += piece
        self.bits_read += 8 * len(data)
        return bytes(data)

    def _corrupt(self, problem: str) -> CorruptStreamError:
        return CorruptStreamError(f"The stream is damaged: {problem}; {self._recovered()}")

    def _recovered(self) -> str:
        seconds = self.frames * self.header.hop_length / SAMPLING_RATE_HZ
        return f"{self.frames} frames ({seconds:.2f} s) before that are intact."
