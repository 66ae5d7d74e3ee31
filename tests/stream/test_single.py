"""Streams of a single chunk: utterances shorter than a chunk."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prior_helpers import PRIOR, likely_codes
from stream_helpers import (
    CODES,
    FIELDS,
    HEADER,
    SAMPLES,
    PipeLike,
    coded_bytes,
    stream_to_bytes,
    unhurried,
)

from vqasr.errors import (
    CorruptStreamError,
    NotAStreamError,
    PriorMismatchError,
    StreamError,
    TruncatedStreamError,
)
from vqasr.evaluation.packet_loss import ChunkLoss, drop_chunks
from vqasr.stream.reader import StreamReader
from vqasr.stream.stream import Stream
from vqasr.stream.writer import StreamWriter

SHORT_FIELDS = {**FIELDS, "stream_id": None, "chunk_frames": 250}
# The header, the end field, the packed codes, the checksum.
SHORT = bytes.fromhex("56518101234500001939034001007ff00a0000c000")
CODED_CODES = likely_codes(PRIOR, 3, 60)
CODED = coded_bytes(CODED_CODES, 60 * 640 - 7)


def with_checksum(body: bytes, prior: bytes = b"") -> bytes:
    return body + struct.pack("<I", zlib.crc32(body, zlib.crc32(prior)))


def test_the_golden_stream() -> None:
    data = stream_to_bytes(CODES, **SHORT_FIELDS)
    assert data == with_checksum(SHORT)
    assert len(data) == 17 + 8
    stream = Stream.load(data)
    np.testing.assert_array_equal(stream.codes, CODES)
    assert (stream.samples, stream.header.single, stream.header.stream_id) == (SAMPLES, True, 0)
    assert stream.header.chunk_frames == 250


def test_who_asks_for_an_id_gets_chunks() -> None:
    named = stream_to_bytes(CODES, **{**SHORT_FIELDS, "stream_id": 7})
    assert not Stream.load(named).header.single
    assert len(named) == len(with_checksum(SHORT)) + 9


@pytest.mark.parametrize(("frames", "single"), [(0, True), (24, True), (25, False), (26, False)])
def test_a_full_chunk_is_no_longer_short(frames: int, single: bool) -> None:
    codes = np.zeros((2, frames), int)
    fields = {**SHORT_FIELDS, "samples": 640 * frames, "chunk_frames": 25}
    stream = Stream.load(stream_to_bytes(codes, **fields))
    assert (stream.header.single, stream.frames) == (single, frames)


def test_written_live_it_is_the_same() -> None:
    file = io.BytesIO()
    with StreamWriter(file, HEADER, None) as writer:
        writer.write(CODES[:, :1])
        assert not file.getvalue()  # it may yet become longer
        writer.close(600)
    whole = stream_to_bytes(CODES[:, :1], **{**SHORT_FIELDS, "samples": 600, "chunk_frames": 2})
    assert file.getvalue() == whole
    assert writer.header == Stream.load(whole).header
    assert writer.bits_written == 8 * len(whole)


def test_an_interrupted_writer_says_so() -> None:
    file = io.BytesIO()
    with contextlib.suppress(ZeroDivisionError), StreamWriter(file, HEADER) as writer:
        writer.write(CODES[:, :1])
        writer.close(1 // 0)
    with pytest.raises(TruncatedStreamError) as caught:
        Stream.load(file.getvalue())
    assert caught.value.stream is not None
    np.testing.assert_array_equal(caught.value.stream.codes, CODES[:, :1])


@pytest.mark.parametrize("whole", [with_checksum(SHORT), CODED], ids=["packed", "coded"])
def test_every_truncation_is_noticed(whole: bytes) -> None:
    for length in range(len(whole)):
        with pytest.raises(StreamError) as caught:
            Stream.load(whole[:length], prior=PRIOR)
        expected = CorruptStreamError
        if length < 10:
            expected = NotAStreamError if length < 3 else TruncatedStreamError
        assert type(caught.value) is expected
        assert caught.value.stream is None  # not even its header was checked
        assert expected is not CorruptStreamError or "encode --chunk-s" in str(caught.value)


@pytest.mark.parametrize("whole", [with_checksum(SHORT), CODED], ids=["packed", "coded"])
def test_every_single_bit_flip_is_noticed(whole: bytes) -> None:
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(StreamError):
            Stream.load(damaged, prior=PRIOR)


@pytest.mark.parametrize("rest", [b"\0", b"VQ", with_checksum(SHORT)])
def test_bytes_behind_it_are_noticed(rest: bytes) -> None:
    with pytest.raises(CorruptStreamError, match="behind its end"):
        Stream.load(with_checksum(SHORT) + rest)


@pytest.mark.parametrize(
    ("end", "payload"),
    [
        (250 | 20 << 12, bytes(625)),  # a full chunk is none
        (3 | 640 << 12, SHORT[13:]),
        (3 | 4095 << 12, SHORT[13:]),  # writers that were interrupted make chunks
        (0 | 1 << 12, b""),
        (4 | 20 << 12, SHORT[13:]),
        (3 | 20 << 12, SHORT[13:] + b"\0"),
        (3 | 20 << 12, SHORT[13:-1] + b"\x01"),  # padding
        (3 | 20 << 12, b"\0"),  # range-coded, without a prior
    ],
)
def test_wrong_content_under_a_right_checksum(end: int, payload: bytes) -> None:
    with pytest.raises(CorruptStreamError):
        Stream.load(with_checksum(SHORT[:10] + end.to_bytes(3, "little") + payload))


@unhurried
@given(st.binary(max_size=200), st.booleans())
def test_random_content_under_a_right_checksum_raises_nothing_else(
    rest: bytes, with_prior: bool
) -> None:
    start = CODED[:10] if with_prior else SHORT[:10]
    with contextlib.suppress(StreamError):
        fingerprint = PRIOR.fingerprint if with_prior else b""
        Stream.load(with_checksum(start + rest, fingerprint), prior=PRIOR)


def test_the_prior_is_under_the_checksum() -> None:
    assert Stream.load(CODED, prior=PRIOR).header.single
    body = CODED[:-4]
    other = with_checksum(body, PRIOR.fingerprint[:2] + b"else")
    with pytest.raises(CorruptStreamError):
        Stream.load(other, prior=PRIOR)
    with pytest.raises(PriorMismatchError):
        Stream.load(body[:6] + b"xy" + body[8:] + CODED[-4:], prior=PRIOR)


def test_from_a_pipe_and_in_parts() -> None:
    pipe = PipeLike(1)
    pipe.data = CODED
    chunks = list(StreamReader(pipe, prior=PRIOR).chunks())
    assert [c.start_frame for c in chunks] == [0]
    np.testing.assert_array_equal(chunks[0].codes, CODED_CODES)
    part = Stream.load(CODED, prior=PRIOR, start_s=0.5, end_s=1.0)
    np.testing.assert_array_equal(part.codes, CODED_CODES[:, 12:25])


def test_it_is_lost_as_a_whole() -> None:
    rng = np.random.default_rng(0)
    assert drop_chunks(CODED, ChunkLoss(0), rng, PRIOR) == CODED
    gone = Stream.load(drop_chunks(CODED, ChunkLoss(100), rng, PRIOR), partial=True, prior=PRIOR)
    assert gone.frames == gone.samples == 0
