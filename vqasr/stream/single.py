"""A ``.vqs`` stream of a single chunk: an utterance shorter than a chunk, whole or not at all.

One checksum covers everything, and the payload ends where the file does: 17 bytes instead of the
26 that a header and a chunk take, which is every 25th of the bits of an utterance of six seconds at
300 bit/s.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

from vqasr.entropy.packing import packed_size_bytes
from vqasr.errors import CorruptStreamError
from vqasr.stream.chunk import CHECKSUM_BYTES, LAST_BYTES, Chunk, EndField, payload_fits
from vqasr.stream.header import SINGLE_HEADER_BYTES, StreamHeader
from vqasr.stream.priors import prior_for

if TYPE_CHECKING:
    from vqasr.stream.reader import StreamReader

SINGLE_OVERHEAD_BYTES = SINGLE_HEADER_BYTES + LAST_BYTES + CHECKSUM_BYTES
_CHECKSUM = struct.Struct("<I")


def single_to_bytes(
    header: StreamHeader, payload: bytes, end: EndField, prior_fingerprint: bytes
) -> bytes:
    """The whole stream.

    Args:
        header: of a single chunk.
        payload: of all frames.
        end: their number and the unused samples.
        prior_fingerprint: all 6 bytes; empty without a prior.
    """
    data = header.to_bytes() + end.to_bytes() + payload
    return data + _checksum(data, prior_fingerprint)


def read_single(reader: StreamReader) -> Chunk | None:
    """The one chunk of a stream whose header has been read; None, and a note, where it is damaged.

    Raises PriorMismatchError.
    """
    header = reader.header
    most_codes = header.chunk_frames * header.num_quantizers
    longest = LAST_BYTES + packed_size_bytes(most_codes, header.bits_per_code) + CHECKSUM_BYTES
    data = reader.take(longest + 1)
    body = data[:-CHECKSUM_BYTES]
    prior = prior_for(header, reader.prior)
    fingerprint = b"" if prior is None else prior.fingerprint
    whole = len(body) >= LAST_BYTES
    if not whole or _checksum(header.to_bytes() + body, fingerprint) != data[-CHECKSUM_BYTES:]:
        reader.note(_damaged("bytes are wrong, missing or behind its end"))
        return None
    end = EndField.from_bytes(body[:LAST_BYTES])
    payload = body[LAST_BYTES:]
    frames, unused = end.frames, end.unused_samples
    codes, bits_per_code = frames * header.num_quantizers, header.bits_per_code
    coded = len(payload) != packed_size_bytes(codes, bits_per_code)
    most_unused = header.hop_length - 1 if frames else 0
    if (
        frames >= header.chunk_frames
        or unused is None
        or unused > most_unused
        or not payload_fits(len(payload), codes, bits_per_code, coded)
    ):
        reader.note(_damaged("its end contradicts its length"))
        return None
    return Chunk(0, payload, coded, frames, unused)


def _damaged(problem: str) -> CorruptStreamError:
    return CorruptStreamError(f"The stream is damaged: {problem}; nothing could be recovered.")


def _checksum(data: bytes, prior_fingerprint: bytes) -> bytes:
    return _CHECKSUM.pack(zlib.crc32(data, zlib.crc32(prior_fingerprint)))
