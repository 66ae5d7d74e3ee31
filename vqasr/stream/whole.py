"""Whole ``.vqs`` streams (docs/stream-format.md), in memory and in files."""

from __future__ import annotations

import io
import os

from vqasr.entropy.packing import IntCodes, check_code_array, check_code_range
from vqasr.entropy.prior import CodePrior
from vqasr.errors import StreamError
from vqasr.files import replace_file
from vqasr.stream.content import MISSING, Stream
from vqasr.stream.header import (
    CODEC_BYTES,
    DEFAULT_CHUNK_FRAMES,
    StreamHeader,
    usual_chunk_frames,
)
from vqasr.stream.reader import ReadableFile, StreamReader
from vqasr.stream.writer import StreamWriter, WritableFile, derived_id, write_all

__all__ = [
    "DEFAULT_CHUNK_FRAMES",
    "MISSING",
    "Stream",
    "StreamHeader",
    "StreamReader",
    "StreamWriter",
    "read_part",
    "read_stream",
    "stream_from_bytes",
    "stream_to_bytes",
    "write_stream",
]


def stream_to_bytes(
    codes: IntCodes,
    *,
    samples: int,
    fingerprint: bytes,
    bits_per_code: int,
    hop_length: int,
    chunk_frames: int | None = None,
    prior: CodePrior | None = None,
    stream_id: int | None = None,
) -> bytes:
    """The whole stream of codes of shape (num_quantizers, frames), any integer dtype.

    samples: audio length at 16 kHz, with ceil(samples / hop_length) = frames. fingerprint: the
    codec's, 6 bytes. chunk_frames: None makes one chunk of less than 750 frames (30 s at 25 Hz),
    else chunks of 250. stream_id: None derives it from all codes, or, where they
    are fewer than a chunk, writes format 3, which has none. The other fields are those of
    StreamHeader and StreamWriter. Raises InvalidCodesError or StreamError.
    """
    check_code_array(codes)
    if chunk_frames is None:
        chunk_frames = usual_chunk_frames(codes.shape[1])
    header = StreamHeader(
        fingerprint[:CODEC_BYTES], codes.shape[0], bits_per_code, hop_length, chunk_frames
    )
    buffer = io.BytesIO()
    check_code_range(codes, bits_per_code)
    if stream_id is None and codes.shape[1] >= chunk_frames:
        stream_id = derived_id(codes, bits_per_code)
    writer = StreamWriter(buffer, header, prior, stream_id)
    writer.write(codes)
    writer.close(samples)
    return buffer.getvalue()


def stream_from_bytes(
    data: bytes | bytearray | memoryview,
    fingerprint: bytes | None = None,
    partial: bool = False,
    prior: CodePrior | None = None,
) -> Stream:
    """Read a whole stream; raises StreamError for any bytes that are not exactly one.

    fingerprint: that of the codec at hand (6 bytes), to refuse another codec's stream with
    CodecMismatchError; None accepts all. partial: of a truncated or damaged stream, return what is
    intact, if anything is, with -2 for lost frames. prior: the one that wrote the stream; None
    takes a bundled one where one is needed, or raises PriorMismatchError.
    """
    return read_part(data, prior, partial=partial, fingerprint=fingerprint)


def read_part(
    data: bytes | bytearray | memoryview,
    prior: CodePrior | None = None,
    start_s: float = 0.0,
    end_s: float | None = None,
    partial: bool = False,
    fingerprint: bytes | None = None,
) -> Stream:
    """The frames that [start_s, end_s) seconds touch; the rest as ``stream_from_bytes``."""
    try:
        return read_stream(data, fingerprint, prior, start_s, end_s)
    except StreamError as error:
        if not partial or error.stream is None:
            raise
        return error.stream


def write_stream(
    destination: str | os.PathLike[str] | WritableFile,
    codes: IntCodes,
    *,
    samples: int,
    fingerprint: bytes,
    bits_per_code: int,
    hop_length: int,
    chunk_frames: int | None = None,
    prior: CodePrior | None = None,
    stream_id: int | None = None,
) -> None:
    """Write what ``stream_to_bytes`` makes to a path or a binary file object.

    Nothing is written when the codes are refused. A file at the path is replaced only once the
    new one is complete. Raises InvalidCodesError, StreamError or OSError.
    """
    data = stream_to_bytes(
        codes,
        samples=samples,
        fingerprint=fingerprint,
        bits_per_code=bits_per_code,
        hop_length=hop_length,
        chunk_frames=chunk_frames,
        prior=prior,
        stream_id=stream_id,
    )
    if isinstance(destination, str | os.PathLike):
        replace_file(destination, data)
    else:
        write_all(destination, data)
        destination.flush()


def read_stream(
    source: str | os.PathLike[str] | bytes | bytearray | memoryview | ReadableFile,
    fingerprint: bytes | None = None,
    prior: CodePrior | None = None,
    start_s: float = 0.0,
    end_s: float | None = None,
) -> Stream:
    """Read a stream from a path, from bytes or from a binary file object (to its end).

    start_s, end_s: only the frames that these seconds touch; chunks outside are not decoded.
    Raises like ``stream_from_bytes``, or OSError.
    """
    if isinstance(source, str | os.PathLike):
        with open(source, "rb") as file:
            return StreamReader(file, fingerprint, prior).read(start_s, end_s)
    if isinstance(source, bytes | bytearray | memoryview):
        source = io.BytesIO(source)
    return StreamReader(source, fingerprint, prior).read(start_s, end_s)
