"""Writing a ``.vqs`` stream chunk by chunk (docs/stream-format.md)."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

import numpy as np

from vqasr.bitpack import IntCodes, check_code_array, check_code_range, pack_codes
from vqasr.errors import StreamError
from vqasr.stream_header import (
    CHUNK_START,
    END_START,
    SEQUENCE_NUMBERS,
    StreamHeader,
    check_integer,
)

DEFAULT_CHUNK_FRAMES = 250


class WritableFile(Protocol):
    """A blocking binary sink; it need not be seekable."""

    def write(self, data: bytes, /) -> int | None:
        """Write, and return how many bytes were taken (None: all of them)."""

    def flush(self) -> None:
        """Hand everything written to the operating system."""


class StreamWriter:
    """Writes a stream while its codes come in; what was flushed stays readable after a crash.

    Use as a context manager and call ``close(samples)`` inside. When the block is left by an
    exception, the frames so far are written without an end chunk, so that readers see a
    truncated stream and recover them. The file itself is never closed.
    """

    def __init__(
        self, file: WritableFile, header: StreamHeader, chunk_frames: int = DEFAULT_CHUNK_FRAMES
    ) -> None:
        """Write the header. chunk_frames: frames per chunk, 1..65535, else StreamError."""
        check_integer("chunk_frames", chunk_frames, 1, 65535)
        self.header = header
        self.frames = 0
        self.bits_written = 0
        self._file = file
        self._chunk_frames = chunk_frames
        self._sequence = 0
        self._pending = np.empty((0, header.num_quantizers), dtype=np.uint16)
        self._open = True
        self._emit(header.to_bytes())

    def write(self, codes: IntCodes) -> None:
        """Add codes of shape (num_quantizers, frames), any integer dtype and number of frames.

        Full chunks are written and flushed at once. Raises InvalidCodesError (and adds none of
        the codes), or StreamError when the writer is closed.
        """
        self._check_open()
        check_code_array(codes, self.header.num_quantizers)
        check_code_range(codes, self.header.bits_per_code)
        self._pending = np.concatenate([self._pending, codes.T.astype(np.uint16)])
        self.frames += codes.shape[1]
        while len(self._pending) >= self._chunk_frames:
            self._write_chunk()

    def close(self, samples: int) -> None:
        """Write the remaining frames and the end chunk. samples: audio length at 16 kHz.

        Raises StreamError, and writes nothing, unless ceil(samples / hop_length) is the number
        of frames written and samples < 2**32.
        """
        self._check_open()
        check_integer("samples", samples, 0, 2**32 - 1)
        needed_frames = -(-samples // self.header.hop_length)
        if needed_frames != self.frames:
            raise StreamError(
                f"{samples} samples make {needed_frames} frames of {self.header.hop_length} "
                f"samples, but {self.frames} were written; pass the length of the audio that was "
                "encoded, at 16 kHz and before any padding."
            )
        self._write_chunk()
        self._emit_with_checksum(END_START.pack(0, samples))
        self._open = False

    def __enter__(self) -> StreamWriter:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._open:
            return
        self._write_chunk()
        self._open = False
        if error_type is None:
            raise StreamError(
                "The stream has no end chunk, since close(samples) was not called; call it as "
                "the last step inside the with block."
            )

    def _check_open(self) -> None:
        if not self._open:
            raise StreamError("This stream is closed, or writing it failed; start a new one.")

    def _write_chunk(self) -> None:
        frames = self._pending[: self._chunk_frames]
        if len(frames) == 0:
            return
        payload = pack_codes(frames, self.header.bits_per_code)
        self._emit_with_checksum(CHUNK_START.pack(len(frames), self._sequence) + payload)
        self._pending = self._pending[self._chunk_frames :]
        self._sequence = (self._sequence + 1) % SEQUENCE_NUMBERS

    def _emit_with_checksum(self, chunk: bytes) -> None:
        self._emit(chunk + self.header.checksum(chunk))

    def _emit(self, data: bytes) -> None:
        # After a failed write the file may end inside a chunk: nothing may be added behind it.
        self._open = False
        write_all(self._file, data)
        self._file.flush()
        self._open = True
        self.bits_written += 8 * len(data)


def write_all(file: WritableFile, data: bytes) -> None:
    """Write all of ``data``, also to an unbuffered file, which may take less than it is given."""
    while data:
        taken = file.write(data)
        data = data[len(data) if taken is None else taken :]
