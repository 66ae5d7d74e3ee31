"""Streams made to do harm, some with right checksums: errors in bounded time and memory."""

from __future__ import annotations

import struct
import time
import tracemalloc

import pytest
from prior_helpers import CODEC, random_prior
from stream_helpers import assemble, check_recovered, data_chunk, last_chunk

from vqasr.errors import CorruptStreamError, StreamError
from vqasr.stream.header import StreamHeader
from vqasr.stream.reader import MAX_LOST_FRAMES
from vqasr.stream.stream import Stream

LAST = last_chunk(1, bytes.fromhex("00c000"), 1, 20)


def test_headers_and_chunks_that_claim_much_cost_little() -> None:
    header = StreamHeader(CODEC[:3], 2, 16, 640, 3000, bytes(2), 1).to_bytes()
    start = struct.pack("<BHH", 1, 4096, 12_000)
    far = [struct.pack("<BHH", 1, 4000 * i, 16_000) for i in range(16)]
    tracemalloc.start()
    for data in (header + start + bytes(100), header + b"".join(far)):
        with pytest.raises(StreamError):
            Stream.load(data)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 2_000_000


def test_gaps_are_filled_up_to_a_limit() -> None:
    header = StreamHeader(CODEC[:3], 1, 1, 640, 3000, bytes(2), 0xEF)
    full = bytes(375)
    chunks = [data_chunk(0, full), *(data_chunk(40 * i, full) for i in range(1, 9))]
    with pytest.raises(CorruptStreamError, match="chunks are missing") as caught:
        Stream.load(assemble(*chunks, header=header.to_bytes()))
    assert caught.value.stream is not None
    assert caught.value.stream.frames == 41 * 3000
    # Where a part is lost all the time, all that arrives is read.
    often = [data_chunk(2 * i, full) for i in range(100)]
    with pytest.raises(CorruptStreamError) as caught:
        Stream.load(assemble(*often, header=header.to_bytes()))
    assert caught.value.stream is not None
    assert caught.value.stream.lost_frames == 99 * 3000 > MAX_LOST_FRAMES


def test_many_false_chunk_starts_are_given_up_in_time() -> None:
    header = StreamHeader(CODEC[:3], 16, 8, 640, 750, bytes(2), 1)
    # Every fifth byte claims a chunk of 12,000 bytes, whose checksum then has to be computed.
    lies = struct.pack("<BHH", 1, 0, 12_000) * 200_000
    started = time.monotonic()
    with pytest.raises(StreamError):
        Stream.load(header.to_bytes() + lies)
    assert time.monotonic() - started < 20.0


def test_the_end_behind_a_hostile_chunk_is_found() -> None:
    header = StreamHeader(CODEC[:3], 16, 8, 640, 750, bytes(2), 0xEF)
    whole = assemble(data_chunk(0, bytes(12_000)), header=header.to_bytes())
    # A damaged chunk, full of what looks like the chunk that is expected next.
    lie = data_chunk(1, struct.pack("<BHH", 0xEF, 1, 12_000) * 2400) + bytes(4)
    end = assemble(last_chunk(2, b"", 0, 0), header=header.to_bytes())[14:]
    with pytest.raises(CorruptStreamError) as caught:
        Stream.load(whole + lie + end)
    stream = caught.value.stream
    assert stream is not None
    assert (stream.frames, stream.lost_frames, stream.samples) == (1500, 750, 1500 * 640)


def test_only_the_empty_last_chunk_survives() -> None:
    end = last_chunk(1, b"", 0, 20)
    with pytest.raises(CorruptStreamError) as caught:
        Stream.load(assemble(end))
    check_recovered(caught.value, (False, False))
    assert caught.value.stream is not None
    assert caught.value.stream.samples == 1260


def test_a_chunk_of_another_round_of_sequence_numbers_is_refused() -> None:
    first, later = data_chunk(0, bytes(5)), data_chunk(0, bytes(5))
    whole = assemble(first, LAST, numbers=[0, 1])
    assert Stream.load(whole).frames == 3
    with pytest.raises(StreamError):
        Stream.load(assemble(later, LAST, numbers=[65_536, 1]))


def test_packed_codes_that_the_prior_does_not_know() -> None:
    prior = random_prior(codebook_size=12)
    header = StreamHeader(CODEC[:3], 1, 4, 640, 2, prior.fingerprint[:2], 0xEF)
    for payload, fine in ((b"\xbb", True), (b"\xbc", False)):
        chunks = (data_chunk(0, payload), last_chunk(1, b"", 0, 0))
        data = assemble(*chunks, header=header.to_bytes(), prior=prior.fingerprint)
        if fine:
            assert Stream.load(data, prior=prior).codes.tolist() == [[11, 11]]
        else:
            with pytest.raises(CorruptStreamError, match="content of a chunk"):
                Stream.load(data, prior=prior)
