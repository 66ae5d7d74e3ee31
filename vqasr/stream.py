"""Whole ``.vqs`` streams (docs/stream-format.md), in memory and in files."""

from __future__ import annotations

import io
import os

from vqasr.bitpack import IntCodes, check_code_array
from vqasr.errors import StreamError
from vqasr.files import replace_file
from vqasr.stream_header import StreamHeader
from vqasr.stream_reader import ReadableFile, Stream, StreamReader
from vqasr.stream_writer import DEFAULT_CHUNK_FRAMES, StreamWriter, WritableFile, write_all

__all__ = [
    "DEFAULT_CHUNK_FRAMES",
    "Stream",
    "StreamHeader",
    "StreamReader",
    "StreamWriter",
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
    chunk_frames: int = DEFAULT_CHUNK_FRAMES,
) -> bytes:
    """The whole stream of codes of shape (num_quantizers, frames), any integer dtype.

    samples: audio length at 16 kHz, with ceil(samples / hop_length) = frames. The other fields
    are those of StreamHeader and StreamWriter. Raises InvalidCodesError or StreamError.
    """
    check_code_array(codes)
    header = StreamHeader(fingerprint, codes.shape[0], bits_per_code, hop_length)
    buffer = io.BytesIO()
    writer = StreamWriter(buffer, header, chunk_frames)
    writer.write(codes)
    writer.close(samples)
    return buffer.getvalue()


def stream_from_bytes(
    data: bytes | bytearray | memoryview,
    fingerprint: bytes | None = None,
    partial: bool = False,
) -> Stream:
    """Read a whole stream; raises StreamError for any bytes that are not exactly one.

    fingerprint: that of the codec at hand (6 bytes), to refuse another codec's stream with
    CodecMismatchError; None accepts all. partial: of a truncated or damaged stream, return what
    precedes the damage, if anything does.
    """
    try:
        return StreamReader(io.BytesIO(data), fingerprint).read()
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
    chunk_frames: int = DEFAULT_CHUNK_FRAMES,
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
    )
    if isinstance(destination, str | os.PathLike):
        replace_file(destination, data)
    else:
        write_all(destination, data)
        destination.flush()


def read_stream(
    source: str | os.PathLike[str] | bytes | bytearray | memoryview | ReadableFile,
    fingerprint: bytes | None = None,
) -> Stream:
    """Read a whole stream from a path, from bytes or from a binary file object (to its end).

    Raises like ``stream_from_bytes``, or OSError.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return stream_from_bytes(source, fingerprint)
    if isinstance(source, str | os.PathLike):
        with open(source, "rb") as file:
            return StreamReader(file, fingerprint).read()
    return StreamReader(source, fingerprint).read()
