"""Writing a ``.vqs`` stream chunk by chunk (docs/stream-format.md)."""

from __future__ import annotations

import binascii
from dataclasses import replace
from types import TracebackType
from typing import Protocol

import numpy as np

from vqasr.entropy.packing import IntCodes, check_code_array, check_code_range, pack_codes
from vqasr.entropy.payload import encode_payload
from vqasr.entropy.prior import CodePrior
from vqasr.errors import StreamError
from vqasr.stream.chunk import MAX_PAYLOAD_BYTES, Chunk, EndField, checksum_seed
from vqasr.stream.header import NO_PRIOR, StreamHeader, check_integer
from vqasr.stream.priors import check_prior, named_by
from vqasr.stream.single import single_to_bytes

MAX_SAMPLES = 1 << 40


class WritableFile(Protocol):
    """A blocking binary sink; it need not be seekable."""

    def write(self, data: bytes, /) -> int | None:
        """Write, and return how many bytes were taken (None: all of them)."""

    def flush(self) -> None:
        """Hand everything written to the operating system."""


class StreamWriter:
    """Writes a stream while its codes come in; what was flushed stays readable after a crash.

    Use as a context manager and call ``close(samples)`` inside. When the block is left by an
    exception, the frames so far are written and marked, so that readers see a truncated stream and
    recover them. The file itself is never closed.

    Args:
        file: the header is written to it together with the first chunk.
        header: its ``prior_fingerprint`` is set from ``prior``, its ``stream_id`` and ``single`` as
            below.
        prior: range-codes the chunks; None packs the codes at fixed width.
        stream_id: 0..65535; None derives it from the first chunk's codes, so that the same codes
            make the same bytes, and writes streams shorter than a chunk as a single chunk, which
            has none. Streams that begin alike (with silence, perhaps) have one id: give ids where
            chunks of several streams travel together.

    Raises:
        StreamError: the prior does not belong to the codec, or chunks of this length could be too
            large for the format.
    """

    def __init__(
        self,
        file: WritableFile,
        header: StreamHeader,
        prior: CodePrior | None = None,
        stream_id: int | None = None,
    ) -> None:
        header = replace(header, single=False)
        if prior is not None:
            check_prior(prior, header)
        name = NO_PRIOR if prior is None else named_by(prior)
        header = replace(header, prior_fingerprint=name)
        if stream_id is not None:
            header = replace(header, stream_id=stream_id)
        bits = header.chunk_frames * header.num_quantizers * header.bits_per_code
        if bits > 8 * MAX_PAYLOAD_BYTES:
            raise StreamError(
                f"chunks of {header.chunk_frames} frames with {header.num_quantizers} codes of "
                f"{header.bits_per_code} bits may take {bits // 8} bytes; at most "
                f"{MAX_PAYLOAD_BYTES} are allowed. Use shorter chunks."
            )
        self.header = header
        self.frames = 0
        self.bits_written = 0
        self._prior = prior
        self._file = file
        self._derive_id = stream_id is None
        self._chunks = 0
        self._seed = 0
        self._pending = np.empty((header.num_quantizers, 0), dtype=np.int64)
        self._open = True

    def write(self, codes: IntCodes) -> None:
        """Add codes of shape (num_quantizers, frames), any integer dtype and number of frames.

        Full chunks are written and flushed at once. Raises InvalidCodesError (and adds none of
        the codes), or StreamError when the writer is closed.
        """
        self._check_open()
        check_code_array(codes, self.header.num_quantizers)
        check_code_range(codes, self.header.bits_per_code)
        if self._prior is not None:
            self._prior.check(codes)
        self._pending = np.concatenate([self._pending, codes.astype(np.int64)], axis=1)
        self.frames += codes.shape[1]
        self._write_full_chunks()

    def close(self, samples: int) -> None:
        """Write the remaining frames as the last chunk. samples: audio length at 16 kHz.

        Raises StreamError, and writes nothing, unless ceil(samples / hop_length) is the number
        of frames written.
        """
        self._check_open()
        check_integer("samples", samples, 0, MAX_SAMPLES)
        samples = int(samples)
        hop_length = self.header.hop_length
        needed_frames = -(-samples // hop_length)
        if needed_frames != self.frames:
            raise StreamError(
                f"{samples} samples make {needed_frames} frames of {hop_length} "
                f"samples, but {self.frames} were written; pass the length of the audio that was "
                "encoded, at 16 kHz and before any padding."
            )
        unused_samples = self.frames * hop_length - samples
        if self._derive_id and self._chunks == 0:
            self._write_single(unused_samples)
        else:
            self._write_chunk(last=True, unused_samples=unused_samples)
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
        self._write_full_chunks()  # there are some where writing was interrupted between two
        self._write_chunk(last=True, unused_samples=None)
        self._open = False
        if error_type is None:
            raise StreamError(
                "The stream has no end, since close(samples) was not called; call it as "
                "the last step inside the with block."
            )

    def _check_open(self) -> None:
        if not self._open:
            raise StreamError("This stream is closed, or writing it failed; start a new one.")

    def _write_full_chunks(self) -> None:
        while self._pending.shape[1] >= self.header.chunk_frames:
            self._write_chunk()

    def _write_chunk(self, last: bool = False, unused_samples: int | None = 0) -> None:
        codes = self._pending[:, : self.header.chunk_frames]
        payload, coded = encode_payload(codes, self.header.bits_per_code, self._prior)
        start = b""
        if self._chunks == 0:
            if self._derive_id:
                derived = derived_id(codes, self.header.bits_per_code)
                self.header = replace(self.header, stream_id=derived)
            start = self.header.to_bytes()
            fingerprint = b"" if self._prior is None else self._prior.fingerprint
            self._seed = checksum_seed(self.header, fingerprint)
        last_frames = codes.shape[1] if last else None
        chunk = Chunk(self._chunks, payload, coded, last_frames, unused_samples)
        self._emit(start + chunk.to_bytes(self.header, self._seed))
        self._pending = self._pending[:, self.header.chunk_frames :]
        self._chunks += 1

    def _write_single(self, unused_samples: int) -> None:
        payload, _ = encode_payload(self._pending, self.header.bits_per_code, self._prior)
        self.header = replace(self.header, single=True, stream_id=0)
        fingerprint = b"" if self._prior is None else self._prior.fingerprint
        end = EndField(self.frames, unused_samples)
        self._emit(single_to_bytes(self.header, payload, end, fingerprint))

    def _emit(self, data: bytes) -> None:
        # After a failed write the file may end inside a chunk: nothing may be added behind it.
        self._open = False
        write_all(self._file, data)
        self._file.flush()
        self._open = True
        self.bits_written += 8 * len(data)


def derived_id(codes: IntCodes, bits_per_code: int) -> int:
    """The stream id of (n, frames) codes: CRC-16 of them, packed."""
    return binascii.crc_hqx(pack_codes(codes.T, bits_per_code), 0xFFFF)


def write_all(file: WritableFile, data: bytes) -> None:
    """Write all of ``data``, also to an unbuffered file, which may take less than it is given."""
    while data:
        taken = file.write(data)
        data = data[len(data) if taken is None else taken :]
