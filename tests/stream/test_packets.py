"""Datagrams: what comes in time is the stream, whatever is lost, repeated or reordered."""

import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vqasr.errors import PriorMismatchError, StreamError
from vqasr.grid import MISSING
from vqasr.stream.chunk import checksum_seed
from vqasr.stream.header import HEADER_BYTES, StreamHeader, is_stream
from vqasr.stream.packets import END_COPIES, LARGEST_BYTES, Receiver, datagrams
from vqasr.stream.reader import StreamReader
from vqasr.stream.stream import Stream
from vqasr.stream.writer import StreamWriter

WAIT_S = 0.1


def stream(frames: int, chunk_frames: int = 5, seed: int = 0) -> bytes:
    file = io.BytesIO()
    codes = np.random.default_rng(seed).integers(0, 1024, (2, frames))
    header = StreamHeader(b"abc", 2, 10, 640, chunk_frames)
    with StreamWriter(file, header, stream_id=7) as writer:
        writer.write(codes)
        writer.close(640 * frames)
    return file.getvalue()


def sent(data: bytes, copies: int = 0) -> list[bytes]:
    return [d for _, group in datagrams(StreamReader(io.BytesIO(data)), copies) for d in group]


def received(packets: list[tuple[float, bytes]], wait_s: float = WAIT_S) -> tuple[bytes, Receiver]:
    receiver, data = Receiver(wait_s), b""
    for now_s, packet in packets:
        while (due_s := receiver.due_s()) is not None and due_s <= now_s:
            data += receiver.poll(due_s)
        data += receiver.feed(packet, now_s)
    while (due_s := receiver.due_s()) is not None:
        data += receiver.poll(due_s)
    return data, receiver


@given(frames=st.integers(0, 60), seed=st.integers(0, 99), spread_s=st.floats(0, 0.09))
@settings(max_examples=60, deadline=None)
def test_reordered_in_time_is_the_stream(frames: int, seed: int, spread_s: float) -> None:
    data = stream(frames)
    jitter = np.random.default_rng(seed).uniform(0, spread_s, 1000)
    packets = sent(data)
    packets += packets[2:4]  # copies
    arrivals = [(0.01 * i + jitter[i], packet) for i, packet in enumerate(packets)]
    arrivals[0] = (-1.0, packets[0])  # the header; before it, nothing can be understood
    arrived, receiver = received(sorted(arrivals, key=lambda a: a[0]), wait_s=0.2)
    assert arrived == data
    assert receiver.ended
    assert receiver.counts.lost == 0
    assert receiver.counts.bytes >= len(data)


@given(lost=st.sets(st.integers(0, 12)), seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_lost_chunks_are_missing(lost: set[int], seed: int) -> None:
    data = stream(63, seed=seed)
    packets = sent(data)
    header, chunks = packets[0], [p for p in packets if len(p) != 14]
    kept = [(0.2 * i, p) for i, p in enumerate(chunks) if i not in lost]
    arrived, receiver = received([(-1.0, header), *kept])
    first = min(set(range(13)) - lost, default=12)
    assert receiver.counts.lost == len([i for i in lost if first < i < 12])
    whole = Stream.load(data).codes[:, 5 * first :]
    if receiver.ended:
        codes = Stream.load(arrived, partial=True).codes
        expected = whole.copy()
        for i in lost:
            if first < i < 12:
                expected[:, 5 * (i - first) : 5 * (i - first) + 5] = MISSING
        np.testing.assert_array_equal(codes, expected)


@given(
    copies=st.integers(0, 3), lost=st.sets(st.integers(0, 11), max_size=9), seed=st.integers(0, 99)
)
@settings(max_examples=60, deadline=None)
def test_copies_restore_what_single_losses_took(copies: int, lost: set[int], seed: int) -> None:
    """A chunk is lost only if all datagrams that hold it are; the last ones are never lost here."""
    data = stream(60, seed=seed)
    header = data[:HEADER_BYTES]
    chunks = list(dict.fromkeys(p for p in sent(data, copies) if p != header))
    lost -= {len(chunks) - 1}
    arrived = [p for i, p in enumerate(chunks) if i not in lost]
    got, receiver = received([(0.2 * i, p) for i, p in enumerate([header, *arrived])])
    holding = [range(i, min(i + copies, len(chunks) - 1) + 1) for i in range(len(chunks))]
    gone = [i for i, place in enumerate(holding) if lost.issuperset(place)]
    first = min(set(range(len(chunks))) - set(gone))  # it becomes number 0
    assert receiver.ended
    assert receiver.counts.lost == sum(i > first for i in gone)
    assert receiver.counts.written == len(chunks) - len(gone)
    if not gone:
        assert got == data


def test_copies_that_do_not_fit_are_left_out() -> None:
    data = stream(60 * 25, chunk_frames=250)
    assert len(sent(data)[1]) > LARGEST_BYTES / 2
    assert max(map(len, sent(data, 3))) <= LARGEST_BYTES
    assert received([(0.0, p) for p in sent(data, 3)])[0] == data


def test_a_late_start_begins_at_zero() -> None:
    data = stream(200)
    packets = sent(data)
    headers = [i for i, p in enumerate(packets) if len(p) == 14]
    arrived, receiver = received([(0.01 * i, p) for i, p in enumerate(packets[headers[2] - 3 :])])
    loaded = Stream.load(arrived)
    np.testing.assert_array_equal(loaded.codes, Stream.load(data).codes[:, -loaded.frames :])
    assert loaded.frames == 200 - 50
    assert receiver.counts.damaged == 3  # before the header


def test_a_chunk_waits_no_longer_than_asked() -> None:
    header, first, second, third = sent(stream(63))[:4]
    receiver = Receiver(WAIT_S)
    assert receiver.feed(header, 0.0) == b""
    assert receiver.feed(first, 0.0) == header + first
    assert receiver.feed(third, 1.0) == b""
    assert receiver.due_s() == 1.0 + WAIT_S
    assert receiver.poll(1.0 + WAIT_S) == third
    assert receiver.feed(second, 1.2) == b""
    assert (receiver.counts.lost, receiver.counts.unused) == (1, 1)


@given(packets=st.lists(st.binary(max_size=60), max_size=20), seed=st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_other_datagrams_do_no_harm(packets: list[bytes], seed: int) -> None:
    data = stream(23, seed=seed)
    own = sent(data)
    damaged = [p[:-1] + bytes([p[-1] ^ 1]) for p in own]
    mixed = [own[0], *packets, *damaged, *sent(stream(20, seed=seed + 1))[1:], *own[1:]]
    # A chunk of another stream with the same id has another checksum only if its codes differ.
    arrived, receiver = received([(0.001 * i, p) for i, p in enumerate(mixed)], wait_s=9.0)
    assert receiver.ended
    assert len(Stream.load(arrived, partial=True).codes[0]) >= 20


def test_a_chunk_that_begins_as_a_header_does() -> None:
    file = io.BytesIO()
    with StreamWriter(file, StreamHeader(b"abc", 1, 8, 640, 5), stream_id=0x1256) as writer:
        writer.write(np.random.default_rng(0).integers(0, 256, (1, 5 * 340)))
        writer.close(640 * 5 * 340)
    packets = sent(file.getvalue())
    chunks = [p for p in packets if len(p) == HEADER_BYTES and is_stream(p) and p != packets[0]]
    assert chunks
    arrived, receiver = received([(0.01 * i, p) for i, p in enumerate(packets)])
    assert arrived == file.getvalue()
    assert (receiver.counts.lost, receiver.counts.damaged) == (0, 0)
    # A chunk that begins as the header of a single chunk.
    header, seed = StreamHeader.from_bytes(packets[0]), 0x8151
    receiver = Receiver(0.0)
    receiver.feed(packets[0], 0.0)
    chunk = replace(next(StreamReader(io.BytesIO(file.getvalue())).intact_chunks()), number=seed)
    data = chunk.to_bytes(header, checksum_seed(header, None))
    assert len(data) == HEADER_BYTES
    assert StreamHeader.from_bytes(data).single
    receiver.feed(data, 0.0)
    assert (receiver.counts.written, receiver.counts.damaged) == (1, 0)


def test_another_prior_is_an_error() -> None:
    header = replace(StreamHeader(b"abc", 2, 10, 640, 5), prior_fingerprint=b"xy")
    with pytest.raises(PriorMismatchError):
        Receiver(WAIT_S).feed(header.to_bytes(), 0.0)


def test_refused() -> None:
    file = io.BytesIO()
    with StreamWriter(file, StreamHeader(b"abc", 2, 10, 640, 250)) as writer:
        writer.write(np.zeros((2, 5), np.int64))
        writer.close(3200)
    with pytest.raises(StreamError, match="short chunks"):
        sent(file.getvalue())
    with pytest.raises(StreamError, match=f"at most {LARGEST_BYTES} fit"):
        sent(stream(1600, chunk_frames=1500))
    assert sent(stream(3))[-END_COPIES:] == [sent(stream(3))[-1]] * END_COPIES
