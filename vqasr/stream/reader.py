"""Reading a ``.vqs`` stream chunk by chunk (docs/stream-format.md), over damage too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vqasr.entropy.payload import decode_payloads, unpack_payload
from vqasr.entropy.prior import CodePrior
from vqasr.errors import CodecMismatchError, CorruptStreamError, StreamError, TruncatedStreamError
from vqasr.grid import SAMPLING_RATE_HZ
from vqasr.stream.chunk import SEQUENCE_NUMBERS, START_BYTES, Chunk, ChunkStart, checksum_seed
from vqasr.stream.header import HEADER_BYTES, StreamHeader
from vqasr.stream.priors import prior_for
from vqasr.stream.single import read_single

# A chunk further ahead than this is not believed, and no more lost frames than this are filled in:
# a few damaged bytes must not make hours of silence.
MAX_LOST_CHUNKS = SEQUENCE_NUMBERS // 2 - 1
MAX_LOST_FRAMES = 1 << 17  # and four times as many as were received
# Looking for the next intact chunk, at most this many bytes are checksummed for each byte read.
SEARCH_EFFORT = 64
_READ_PIECE_BYTES = 1 << 16


class ReadableFile(Protocol):
    """A blocking binary source; nothing but ``read`` is used, so it need not be seekable."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none only at the end."""


@dataclass(frozen=True, eq=False)
class ReadChunk:
    """Verified codes, int64 (num_quantizers, frames), and where they belong."""

    start_frame: int
    codes: npt.NDArray[np.int64]


class StreamReader:
    """Reads a stream from a binary file object; never seeks, and never closes it.

    ``samples`` (audio length at 16 kHz) is None until the last chunk has been read.

    Args:
        file: read to the end of the stream, and one byte further.
        fingerprint: that of the codec at hand (6 bytes), to refuse other streams.
        prior: the one that wrote the stream; None takes a bundled one where one is needed.

    Raises:
        What ``StreamHeader.from_bytes`` raises, CodecMismatchError or (on reading codes)
        PriorMismatchError.
    """

    def __init__(
        self,
        file: ReadableFile,
        fingerprint: bytes | None = None,
        prior: CodePrior | None = None,
    ) -> None:
        self.bits_read = 0
        self.frames = 0
        self.samples: int | None = None
        self._file = file
        self.prior = prior
        self._started = False
        self._buffer = bytearray()
        self._exhausted = False
        self._effort = 0  # bytes that were checksummed in vain
        self._seed = 0
        self._problem: StreamError | None = None
        self._fill(HEADER_BYTES)
        self.header = StreamHeader.from_bytes(bytes(self._buffer[:HEADER_BYTES]))
        del self._buffer[: self.header.size_bytes]
        if fingerprint is not None and not self.header.names_codec(fingerprint):
            raise CodecMismatchError(
                f"The stream was written by codec {self.header.fingerprint.hex()}, but the codec "
                f"at hand is {fingerprint.hex()}; load the codec that wrote it, or encode the "
                "audio again with this one."
            )

    def chunks(self) -> Iterator[ReadChunk]:
        """Yield the codes of each intact chunk as soon as it is there.

        Can be used once. After damage it goes on with the next intact chunk, and raises
        TruncatedStreamError or CorruptStreamError at the end.
        """
        for number, chunk in self.intact_chunks():
            codes = self.decode([chunk])[0]
            if codes is not None:
                yield ReadChunk(number * self.header.chunk_frames, codes)
        self.raise_problem()

    def intact_chunks(self) -> Iterator[tuple[int, Chunk]]:
        """Yield number and chunk of each one whose checksum is right, undecoded.

        Can be used once. Never raises for damage; ``raise_problem`` does, afterwards.
        """
        if self._started:
            raise StreamError("This reader has been used; open the stream again.")
        self._started = True
        if self.header.single:
            yield from self._intact_single()
            return
        prior = prior_for(self.header, self.prior)
        self._seed = checksum_seed(self.header, b"" if prior is None else prior.fingerprint)
        expected = skipped = lost = 0
        cut = ended = False
        while not ended and self._fill(1):
            start, chunk, enough = self._next_chunk(expected)
            if chunk is None:
                # Not a chunk of this stream, or a damaged one: the next may begin at any byte.
                cut = not enough if skipped == 0 else cut
                skipped += self._skip()
                continue
            assert start is not None  # for the type checker
            number = chunk.number
            ahead = number - expected
            if skipped or ahead:
                self.note(
                    self.corrupt(f"{skipped} bytes are no chunk, and {ahead} chunks are missing")
                )
            lost += ahead * self.header.chunk_frames
            if lost > MAX_LOST_FRAMES + 4 * (number * self.header.chunk_frames - lost):
                self.note(self.corrupt(f"{lost} frames are missing, more than are filled in"))
                return
            del self._buffer[: start.total_bytes]
            expected, skipped = number + 1, 0
            before = number * self.header.chunk_frames
            self.frames = before + chunk.frames(self.header)
            ended = start.last
            if ended and chunk.unused_samples is not None:
                self.samples = self.frames * self.header.hop_length - chunk.unused_samples
                if self.samples < 0:
                    self.samples = None
                    self.note(self.corrupt("its end contradicts its length"))
            yield number, chunk
        if ended and self._fill(1):
            self.note(self.corrupt("there are bytes after its end"))
        elif skipped and not cut:
            self.note(self.corrupt(f"its last {skipped} bytes are no chunk"))
        elif self.samples is None:
            self.note(self.truncated())

    def _intact_single(self) -> Iterator[tuple[int, Chunk]]:
        chunk = read_single(self)
        if chunk is not None:
            self.frames = chunk.frames(self.header)
            self.samples = self.frames * self.header.hop_length - (chunk.unused_samples or 0)
            yield 0, chunk

    def raise_problem(self) -> None:
        """Raise what was found wrong so far, if anything."""
        if self._problem is not None:
            raise self._problem

    def take(self, size: int) -> bytes:
        """The next bytes, fewer only at the end of the file."""
        self._fill(size)
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def corrupt(self, problem: str) -> CorruptStreamError:
        """An error that says what is wrong and how much is intact."""
        return CorruptStreamError(f"The stream is damaged: {problem}; {self._recovered()}")

    def truncated(self) -> TruncatedStreamError:
        """An error that says that the end is missing and how much came before it."""
        return TruncatedStreamError(f"The stream ends before its last chunk; {self._recovered()}")

    def _next_chunk(self, expected: int) -> tuple[ChunkStart | None, Chunk | None, bool]:
        """What begins at the buffer's first byte, and whether there were bytes enough to say."""
        if self._fill(START_BYTES) < START_BYTES:
            return None, None, False
        start = ChunkStart.read(bytes(self._buffer[:START_BYTES]), self.header)
        ahead = (start.sequence - expected) % SEQUENCE_NUMBERS if start else 0
        if start is None or ahead > MAX_LOST_CHUNKS:
            return None, None, True
        size = start.total_bytes
        if self._fill(size) < size:
            return start, None, False
        if 8 * (self._effort + size) > SEARCH_EFFORT * self.bits_read:
            return start, None, True  # hostile: too many false chunks were looked at already
        data = bytes(self._buffer[:size])
        chunk = start.chunk(data, self.header, self._seed, expected + ahead)
        self._effort += size if chunk is None else 0
        return start, chunk, True

    def _skip(self) -> int:
        """Drop bytes up to the next one that may begin a chunk; returns how many."""
        following = self._buffer.find(self.header.stream_id & 0xFF, 1)
        count = len(self._buffer) if following < 0 else following
        del self._buffer[:count]
        return count

    def decode(self, chunks: list[Chunk]) -> list[npt.NDArray[np.int64] | None]:
        """Decode chunks; None, and a note, where a right checksum covers wrong content."""
        header = self.header
        prior = prior_for(header, self.prior)
        decoded: list[npt.NDArray[np.int64] | None] = [None] * len(chunks)
        together: dict[int, list[int]] = {}
        for i, chunk in enumerate(chunks):
            frames = chunk.frames(header)
            if chunk.coded:
                together.setdefault(frames, []).append(i)
            else:
                codes = unpack_payload(
                    chunk.payload, header.num_quantizers, frames, header.bits_per_code
                )
                unknown = prior and codes is not None and not prior.knows(codes)
                decoded[i] = None if unknown else codes
        for frames, members in together.items():
            if prior is None:
                break
            payloads = [chunks[i].payload for i in members]
            found = decode_payloads(payloads, header.num_quantizers, frames, prior)
            for i, codes in zip(members, found, strict=True):
                decoded[i] = codes
        if any(codes is None for codes in decoded):
            self.note(
                CorruptStreamError(
                    "The stream is damaged: the content of a chunk is not what a writer makes; "
                    "the other chunks are intact."
                )
            )
        return decoded

    def note(self, problem: StreamError) -> None:
        """Remember the first thing that is wrong."""
        if self._problem is None:
            self._problem = problem

    def _fill(self, size: int) -> int:
        """Read on until the buffer holds `size` bytes or the file ends; returns what it holds."""
        # In pieces: a file may return less than asked, and some allocate all that is asked for.
        while len(self._buffer) < size and not self._exhausted:
            wanted = min(size - len(self._buffer), _READ_PIECE_BYTES)
            piece = self._file.read(wanted)
            self._exhausted = not piece
            self._buffer += piece
            self.bits_read += 8 * len(piece)
        return len(self._buffer)

    def _recovered(self) -> str:
        seconds = self.frames * self.header.hop_length / SAMPLING_RATE_HZ
        return f"{self.frames} frames ({seconds:.2f} s) before that are intact."
