"""Writing a ``.vqs`` stream chunk by chunk (docs/stream-format.md)."""

from __future__ import annotations

import binascii
from dataclasses import replace
from typing import BinaryIO

import numpy as np

from vqasr.entropy.packing import IntCodes, check_codes, pack_codes
from vqasr.entropy.payload import encode_payload
from vqasr.entropy.pitch import check_pitch, encode_pitch
from vqasr.entropy.prior import CodePrior
from vqasr.errors import InvalidCodesError, StreamError
from vqasr.stream.chunk import (
    Chunk,
    EndField,
    check_chunk_size,
    checksum_seed,
    join_pitch,
    single_to_bytes,
)
from vqasr.stream.header import StreamHeader, check_integer
from vqasr.stream.priors import check_prior, named_by

MAX_SAMPLES = 1 << 40


class StreamWriter:
    """Write a stream while its codes come in; flushed chunks stay readable after a crash.

    Use as a context manager and call ``close(samples)`` inside. When the block is left by an
    exception, the frames so far are written and marked, so that readers report a truncated stream
    and recover them. The file itself is never closed.

    Args:
        file: blocking and binary, of which only ``write`` and ``flush`` are used. The header is
            written together with the first chunk.
        header: its ``prior_fingerprint`` is set from ``prior``, its ``stream_id`` and ``single`` as
            below.
        prior: range-codes the chunks; None packs the codes at fixed width.
        stream_id: 0..65535; None derives it from the first chunk's codes, so that equal codes make
            equal bytes, and writes streams shorter than a chunk as a single chunk, which has none.
            Streams with the same beginning (silence, perhaps) share a derived id: pass ids where
            chunks of several streams travel together.

    Raises:
        StreamError: the prior does not belong to the codec, or chunks of this length could be too
            large for the format.
    """

    def __init__(
        self,
        file: BinaryIO,
        header: StreamHeader,
        prior: CodePrior | None = None,
        stream_id: int | None = None,
    ) -> None:
        if prior is not None:
            check_prior(prior, header)
        check_chunk_size(header)
        self._derive_id = stream_id is None
        self.header = replace(
            header,
            prior_fingerprint=named_by(prior),
            stream_id=header.stream_id if stream_id is None else stream_id,
            single=False,
        )
        self.frames = 0
        self.bits_written = 0
        self._prior = prior
        self._file = file
        self._chunks = 0
        self._seed = 0
        self._pending = np.empty((header.num_quantizers, 0), dtype=np.int64)
        self._pending_pitch = np.empty(0, dtype=np.int64)
        self._open = True

    def write(self, codes: IntCodes, pitch: IntCodes | None = None) -> None:
        """Add codes of shape (num_quantizers, frames), any integer dtype and number of frames.

        A stream with pitch needs (frames,) codes of the fundamental frequency as well, 0 to 74.

        Full chunks are written and flushed at once. Raises InvalidCodesError (and adds none of
        the codes), or StreamError when the writer is closed.
        """
        self._check_open()
        check_codes(codes, self.header.num_quantizers, self.header.bits_per_code)
        if self._prior is not None:
            self._prior.check(codes)
        if (pitch is not None) != self.header.pitch:
            wanted = "needs" if self.header.pitch else "has no"
            raise InvalidCodesError(
                f"this stream {wanted} pitch; give it for all frames, and set pitch in the header, "
                "or for none."
            )
        if pitch is not None:
            check_pitch(pitch, codes.shape[1])
            self._pending_pitch = np.concatenate([self._pending_pitch, pitch.astype(np.int64)])
        self._pending = np.concatenate([self._pending, codes.astype(np.int64)], axis=1)
        self.frames += codes.shape[1]
        self._write_full_chunks()

    def close(self, samples: int) -> None:
        """Write the remaining frames as the last chunk. samples: audio length at 16 kHz.

        Raises StreamError, and writes nothing, unless ceil(samples / hop_length) is the number
        of frames written.
        """
        self._check_open()
        check_integer("samples", samples, range(MAX_SAMPLES + 1))
        hop_length = self.header.hop_length
        needed_frames = -(-int(samples) // hop_length)
        if needed_frames != self.frames:
            raise StreamError(
                f"{samples} samples make {needed_frames} frames of {hop_length} "
                f"samples, but {self.frames} were written; pass the length of the audio that was "
                "encoded, at 16 kHz and before any padding."
            )
        self._write_last_chunk(self.frames * hop_length - int(samples))

    def __enter__(self) -> StreamWriter:
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        if not self._open:
            return
        self._write_last_chunk(None)
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

    def _write_last_chunk(self, unused_samples: int | None) -> None:
        self._write_full_chunks()  # some are left where writing was interrupted between two
        self._write_chunk(EndField(self._pending.shape[1], unused_samples))
        self._open = False

    def _write_chunk(self, end: EndField | None = None) -> None:
        bits_per_code = self.header.bits_per_code
        codes = self._pending[:, : self.header.chunk_frames]
        payload, coded = encode_payload(codes, bits_per_code, self._prior)
        pitch = None
        if self.header.pitch:
            pitch = encode_pitch(self._pending_pitch[: self.header.chunk_frames])
        start = b""
        if self._chunks == 0:
            if self._derive_id and end is not None and end.unused_samples is not None:
                self.header = replace(self.header, single=True, stream_id=0)
                body = join_pitch(pitch, payload)
                self._emit(single_to_bytes(self.header, body, end, self._prior))
                return
            if self._derive_id:
                self.header = replace(self.header, stream_id=derived_id(codes, bits_per_code))
            start = self.header.to_bytes()
            self._seed = checksum_seed(self.header, self._prior)
        chunk = Chunk(self._chunks, payload, coded, end, pitch)
        self._emit(start + chunk.to_bytes(self.header, self._seed))
        self._pending = self._pending[:, self.header.chunk_frames :]
        self._pending_pitch = self._pending_pitch[self.header.chunk_frames :]
        self._chunks += 1

    def _emit(self, data: bytes) -> None:
        # After a failed write the file may end inside a chunk: nothing may be added behind it.
        self._open = False
        write_all(self._file, data)
        self._file.flush()
        self._open = True
        self.bits_written += 8 * len(data)


def derived_id(codes: IntCodes, bits_per_code: int) -> int:
    """Return the stream id of (n, frames) codes: CRC-16 of them, packed."""
    return binascii.crc_hqx(pack_codes(codes.T, bits_per_code), 0xFFFF)


def write_all(file: BinaryIO, data: bytes) -> None:
    """Write all of ``data``, also to an unbuffered file that takes only part of it at a time."""
    while data:
        taken = file.write(data)
        data = data[len(data) if taken is None else taken :]
