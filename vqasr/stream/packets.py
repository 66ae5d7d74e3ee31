"""A stream as datagrams: each carries the header, or a chunk and copies of those before it.

Datagrams may be lost, repeated and reordered. The header is repeated, so that a receiver may start
late. Chunks have numbers, sizes and checksums of their own, so datagrams need nothing else. Copies
of the chunks before restore what single losses took (redundancy after RFC 2198).
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

from vqasr.entropy.prior import CodePrior
from vqasr.errors import StreamError
from vqasr.stream.chunk import (
    CHECKSUM_BYTES,
    SEQUENCE_NUMBERS,
    START_BYTES,
    Chunk,
    checksum_seed,
    read_start,
)
from vqasr.stream.header import HEADER_BYTES, StreamHeader, is_stream
from vqasr.stream.priors import prior_for
from vqasr.stream.reader import StreamReader

HEADER_EVERY_S = 1.0
END_COPIES = 3  # of the last chunk, which tells the receiver that it is the last
# Larger datagrams are cut into parts on many networks, and are lost with each of them.
LARGEST_BYTES = 1200
IP_AND_UDP_BYTES = 28  # of headers, with IPv4
# A receiver that starts late does not know how often the 16-bit numbers have begun anew.
MOST_ROUNDS = 8


def datagrams(reader: StreamReader, copies: int = 0) -> Iterator[tuple[float, list[bytes]]]:
    """Cut a stream into datagrams, as soon as its chunks are there.

    Args:
        reader: of the stream, unused.
        copies: so many chunks before its own are in each datagram too, as far as they fit.

    Yields:
        Seconds from the start of the stream to the end of a chunk, and the datagrams to send then.

    Raises:
        StreamError: the stream is a single chunk without fields of its own, or its chunks are too
            large; at the end, what `StreamReader.raise_problem` raises.
    """
    header = reader.header
    if header.single:
        raise StreamError(
            "a stream of a single chunk has no parts that could be sent one by one. Encode with "
            "short chunks (--chunk-s 0.2)."
        )
    seed = checksum_seed(header, prior_for(header, reader.prior))
    repeat = max(1, round(HEADER_EVERY_S / header.chunk_s))
    before: deque[bytes] = deque(maxlen=copies)
    for i, chunk in enumerate(reader.intact_chunks()):
        data = chunk.to_bytes(header, seed)
        if len(data) > LARGEST_BYTES:
            raise StreamError(
                f"a chunk of {header.chunk_s:g} s has {len(data)} bytes; at most {LARGEST_BYTES} "
                "fit into a datagram. Encode with shorter chunks (--chunk-s 0.2)."
            )
        sent = [header.to_bytes()] if i % repeat == 0 else []
        whole = [*before, data]
        while sum(map(len, whole)) > LARGEST_BYTES:
            whole.pop(0)
        sent += [b"".join(whole)] * (1 if chunk.end is None else END_COPIES)
        before.append(data)
        yield (chunk.number + 1) * header.chunk_s, sent
    reader.raise_problem()


@dataclass
class Counts:
    """Numbers of datagrams by what became of them.

    Attributes:
        written: chunks in the stream.
        lost: chunks that did not come in time.
        unused: copies of chunks, and chunks that came after they counted as lost.
        damaged: datagrams that belong to no stream, or not to this one.
        bytes: of all datagrams, headers of IP and UDP included.
    """

    written: int = 0
    lost: int = 0
    unused: int = 0
    damaged: int = 0
    bytes: int = 0


class Receiver:
    """Put the datagrams of one stream in order: a jitter buffer.

    A chunk is written as soon as all chunks before it are; after a gap, when `wait_s` are over.
    The first chunk that is written becomes number 0.

    Args:
        wait_s: longest time that a chunk waits for one before it.
        prior: of the stream; None for the one that ships for its codec.

    Attributes:
        header: of the stream; None before the first datagram with it.
        ended: whether the last chunk was written.
        counts: see `Counts`.
    """

    def __init__(self, wait_s: float, prior: CodePrior | None = None):
        self.header: StreamHeader | None = None
        self.ended = False
        self.counts = Counts()
        self._wait_s, self._prior, self._seed = wait_s, prior, 0
        self._next: int | None = None  # number of the next chunk
        self._first = 0  # number of the chunk that was written first
        self._waiting: dict[int, tuple[float, Chunk]] = {}  # arrival times and chunks

    def feed(self, datagram: bytes, now_s: float) -> bytes:
        """Take a datagram; return the bytes of the stream that it completes.

        Raises:
            PriorMismatchError: the stream needs a prior that is not there.
        """
        self.counts.bytes += len(datagram) + IP_AND_UDP_BYTES
        header = None
        if len(datagram) == HEADER_BYTES and is_stream(datagram):
            with contextlib.suppress(StreamError):  # chunks may begin as headers do
                header = StreamHeader.from_bytes(datagram)
        if header is not None and not header.single:  # those of single chunks are shorter
            self._take_header(header)
            return self.poll(now_s)
        chunks = self._chunks(datagram)
        self.counts.damaged += not chunks
        for chunk in chunks:
            if chunk.number < (self._next or 0) or chunk.number in self._waiting:
                self.counts.unused += 1
            else:
                self._waiting[chunk.number] = (now_s, chunk)
        return self.poll(now_s)

    def poll(self, now_s: float) -> bytes:
        """Return the bytes of the stream that are complete, or that wait no longer."""
        written = b""
        while self._waiting and not self.ended:
            number = min(self._waiting)
            arrived_s = min(arrived for arrived, _ in self._waiting.values())
            if number != (self._next or 0) and now_s < arrived_s + self._wait_s:
                break
            written += self._write(self._waiting.pop(number)[1])
        return written

    def due_s(self) -> float | None:
        """Return when `poll` will have more without another datagram; None if it will not."""
        if not self._waiting or self.ended:
            return None
        return min(arrived for arrived, _ in self._waiting.values()) + self._wait_s

    def _write(self, chunk: Chunk) -> bytes:
        assert self.header is not None  # chunks are taken after it
        data = b""
        if self._next is None:
            self._first, data = chunk.number, self.header.to_bytes()
        else:
            self.counts.lost += chunk.number - self._next
        self._next = chunk.number + 1
        self.ended = chunk.end is not None
        self.counts.written += 1
        return data + replace(chunk, number=chunk.number - self._first).to_bytes(
            self.header, self._seed
        )

    def _take_header(self, header: StreamHeader) -> None:
        if self.header is None:
            self._seed = checksum_seed(header, prior_for(header, self._prior))
            self.header = header
        elif header != self.header:
            self.counts.damaged += 1

    def _chunks(self, datagram: bytes) -> list[Chunk]:
        """Return the verified chunks in a datagram; none if a part of it is no chunk."""
        chunks = []
        while datagram:
            if self.header is None or len(datagram) < START_BYTES + CHECKSUM_BYTES:
                return []
            start = read_start(datagram[:START_BYTES], self.header)
            if start is None or start[1] > len(datagram):
                return []
            sequence, size = start[:2]
            data, datagram = datagram[:size], datagram[size:]
            found = (
                Chunk.from_bytes(data, self.header, self._seed, number)
                for number in self._possible_numbers(sequence)
            )
            chunk = next(filter(None, found), None)
            if chunk is None:
                return []
            chunks.append(chunk)
        return chunks

    def _possible_numbers(self, sequence: int) -> list[int]:
        """Return the numbers that a chunk of this 16-bit number may have."""
        if self._next is None:
            return [sequence + i * SEQUENCE_NUMBERS for i in range(MOST_ROUNDS)]
        ahead = (sequence - self._next) % SEQUENCE_NUMBERS
        behind = ahead - SEQUENCE_NUMBERS  # a late or repeated chunk
        return [self._next + ahead, self._next + behind]
