"""Reading format 1 of ``.vqs``: fixed-width codes, one checksummed chunk after another."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vqasr.entropy.packing import packed_size_bytes
from vqasr.entropy.payload import unpack_payload

if TYPE_CHECKING:
    from vqasr.stream.reader import StreamReader

_FRAMES = struct.Struct("<H")  # what every chunk begins with
_DATA_START = struct.Struct("<HH")  # frames, sequence
_END_START = struct.Struct("<HI")  # frames = 0, samples
_CHECKSUM = struct.Struct("<I")


def read_format_1(reader: StreamReader) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the codes of each verified chunk, int64 (num_quantizers, frames).

    Raises TruncatedStreamError or CorruptStreamError at the first damage.
    """
    reader.start()
    header = reader.header
    n, bits_per_code = header.num_quantizers, header.bits_per_code
    sequence = 0
    while frames := _FRAMES.unpack(start := _take(reader, _FRAMES.size))[0]:
        start += _take(reader, _DATA_START.size - len(start))
        payload = _take(reader, packed_size_bytes(frames * n, bits_per_code))
        _verify(reader, start + payload)
        found = _DATA_START.unpack(start)[1]
        if found != sequence:
            raise reader.corrupt(f"chunk {found} stands where {sequence} should")
        codes = unpack_payload(payload, n, frames, bits_per_code)
        if codes is None:
            raise reader.corrupt("the padding bits of a chunk are not zero")
        reader.frames += frames
        sequence = (sequence + 1) % 65_536
        yield codes
    end = start + _take(reader, _END_START.size - len(start))
    _verify(reader, end)
    samples = _END_START.unpack(end)[1]
    if -(-samples // header.hop_length) != reader.frames:
        raise reader.corrupt(f"its end names {samples} samples, which do not match the frames")
    reader.samples = samples
    if reader.take(1):
        raise reader.corrupt("there are bytes after its end")


def _verify(reader: StreamReader, chunk: bytes) -> None:
    expected = zlib.crc32(chunk, zlib.crc32(reader.header.to_bytes()))
    if _take(reader, _CHECKSUM.size) != _CHECKSUM.pack(expected):
        raise reader.corrupt("a checksum does not match")


def _take(reader: StreamReader, size: int) -> bytes:
    data = reader.take(size)
    if len(data) < size:
        raise reader.truncated()
    return data
