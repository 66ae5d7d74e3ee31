"""Reading a ``.vqs`` stream chunk by chunk (docs/stream-format.md), over damage too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from vqasr.entropy.packing import unpack_codes
from vqasr.entropy.payload import decode_payloads
from vqasr.entropy.pitch import decode_pitch
from vqasr.entropy.prior import CodePrior
from vqasr.errors import CorruptStreamError, StreamError, TruncatedStreamError
from vqasr.grid import MISSING, SAMPLING_RATE_HZ, UNVOICED
from vqasr.stream.chunk import (
    CHECKSUM_BYTES,
    END_BYTES,
    SEQUENCE_NUMBERS,
    START_BYTES,
    Chunk,
    checksum_seed,
    largest_body_bytes,
    read_start,
    single_from_bytes,
)
from vqasr.stream.header import HEADER_BYTES, StreamHeader
from vqasr.stream.priors import prior_for

# Chunks further ahead are refused and no more lost frames are filled in, so that a few damaged
# bytes cannot make hours of silence.
MAX_LOST_CHUNKS = SEQUENCE_NUMBERS // 2 - 1
MAX_LOST_FRAMES = 1 << 17  # and four times the number of received frames
# In the search for the next intact chunk, at most this many bytes are checksummed per byte read.
SEARCH_EFFORT = 64
_READ_PIECE_BYTES = 1 << 16


@dataclass(frozen=True, eq=False)
class ReadChunk:
    """Hold verified codes.

    Attributes:
        start_frame: number of the first frame.
        codes: (num_quantizers, frames) int64.
        pitch: (frames,) int64 codes of the fundamental frequency; None in streams without.
    """

    start_frame: int
    codes: npt.NDArray[np.int64]
    pitch: npt.NDArray[np.int64] | None


class StreamReader:
    """Read a stream from a blocking binary file, of which only ``read`` is used.

    ``samples`` (audio length at 16 kHz) is None until the last chunk has been read.

    Args:
        file: read to the end of the stream, and one byte further.
        fingerprint: 6 bytes of the codec in use, to refuse other streams.
        prior: the one that wrote the stream; None takes a bundled one where one is needed.

    Raises:
        What ``StreamHeader.from_bytes`` raises, CodecMismatchError or (on reading codes)
        PriorMismatchError.
    """

    def __init__(
        self,
        file: BinaryIO,
        fingerprint: bytes | None = None,
        prior: CodePrior | None = None,
    ) -> None:
        self.bits_read = 0
        self.frames = 0
        self.samples: int | None = None
        self.prior = prior
        self._file = file
        self._started = False
        self._buffer = bytearray()
        self._exhausted = False
        self._effort = 0  # bytes that were checksummed in vain
        self._seed = 0
        self._problem: StreamError | None = None
        self._fill(HEADER_BYTES)
        self.header = StreamHeader.from_bytes(bytes(self._buffer[:HEADER_BYTES]))
        del self._buffer[: len(self.header.to_bytes())]
        if fingerprint is not None:
            self.header.check_codec(fingerprint)

    def chunks(self) -> Iterator[ReadChunk]:
        """Yield the codes of each intact chunk as soon as it is there.

        Can be used once. After damage it continues with the next intact chunk, and raises
        TruncatedStreamError or CorruptStreamError at the end.
        """
        for chunk in self.intact_chunks():
            yield from self.decode([chunk])
        self.raise_problem()

    def filled_chunks(self) -> Iterator[ReadChunk]:
        """Yield chunks as they come in, beginning with the frames that were lost before them.

        Lost frames have the code -2 and no voice. Can be used once. Never raises for damage;
        ``raise_problem`` does, afterwards.
        """
        frames = 0
        for chunk in self.intact_chunks():
            for read in self.decode([chunk]):
                lost = read.start_frame - frames
                codes = np.pad(read.codes, ((0, 0), (lost, 0)), constant_values=MISSING)
                pitch = read.pitch
                if pitch is not None:
                    pitch = np.pad(pitch, (lost, 0), constant_values=UNVOICED)
                yield ReadChunk(frames, codes, pitch)
                frames += codes.shape[1]

    def intact_chunks(self) -> Iterator[Chunk]:
        """Yield each chunk whose checksum is right, undecoded.

        Can be used once. Never raises for damage; ``raise_problem`` does, afterwards.
        """
        if self._started:
            raise StreamError("This reader has been used; open the stream again.")
        self._started = True
        prior = prior_for(self.header, self.prior)
        if self.header.single:
            yield from self._intact_single(prior)
            return
        self._seed = checksum_seed(self.header, prior)
        expected = skipped = lost = 0
        cut = ended = False
        while not ended and self._fill(1):
            chunk, enough = self._next_chunk(expected)
            if chunk is None:
                # Not a chunk of this stream, or a damaged one: the next may begin at any byte.
                cut = not enough if skipped == 0 else cut
                skipped += self._skip()
                continue
            ahead = chunk.number - expected
            if skipped or ahead:
                self._note(f"{skipped} bytes are no chunk, and {ahead} chunks are missing")
            lost += ahead * self.header.chunk_frames
            received = chunk.number * self.header.chunk_frames - lost
            if lost > MAX_LOST_FRAMES + 4 * received:
                self._note(f"{lost} frames are missing, more than are filled in")
                return
            del self._buffer[: chunk.total_bytes]
            expected, skipped = chunk.number + 1, 0
            ended = chunk.end is not None
            self._count(chunk)
            yield chunk
        if ended and self._fill(1):
            self._note("there are bytes after its end")
        elif skipped and not cut:
            self._note(f"its last {skipped} bytes are no chunk")
        elif self.samples is None and self._problem is None:
            self._problem = TruncatedStreamError(
                f"The stream ends before its last chunk; {self._recovered()}"
            )

    def raise_problem(self) -> None:
        """Raise the first problem that was found, if any."""
        if self._problem is not None:
            raise self._problem

    def decode(self, chunks: list[Chunk]) -> list[ReadChunk]:
        """Decode chunks, in their order.

        Chunks with a right checksum but invalid content are left out and noted as damage.
        """
        header, n = self.header, self.header.num_quantizers
        prior = prior_for(header, self.prior)
        decoded: dict[int, npt.NDArray[np.int64] | None] = {}
        for chunk in chunks:
            if not chunk.coded:
                frames = chunk.frames(header)
                codes = unpack_codes(chunk.payload, n, frames, header.bits_per_code)
                usable = codes is None or prior is None or prior.knows(codes)
                decoded[chunk.number] = codes if usable else None
        if prior is not None:
            coded = (chunk for chunk in chunks if chunk.coded)
            for frames, group in groupby(coded, lambda chunk: chunk.frames(header)):
                payloads = {chunk.number: chunk.payload for chunk in group}
                codes_of_group = decode_payloads(list(payloads.values()), n, frames, prior)
                decoded |= zip(payloads, codes_of_group, strict=True)
        valid = []
        for chunk in chunks:
            known = decoded.get(chunk.number)
            pitch = None
            if chunk.pitch is not None:
                pitch = decode_pitch(chunk.pitch, chunk.frames(header))
            if known is not None and (pitch is None) == (chunk.pitch is None):
                valid.append(ReadChunk(chunk.number * header.chunk_frames, known, pitch))
        if len(valid) < len(chunks):
            self._note("the content of a chunk is invalid", "the other chunks are intact.")
        return valid

    def _intact_single(self, prior: CodePrior | None) -> Iterator[Chunk]:
        header = self.header
        largest = END_BYTES + largest_body_bytes(header) + CHECKSUM_BYTES
        size = self._fill(largest + 1)  # one byte more, to notice bytes behind its end
        try:
            chunk = single_from_bytes(bytes(self._buffer[:size]), header, prior)
        except CorruptStreamError as error:
            self._problem = error
            return
        self._count(chunk)
        yield chunk

    def _next_chunk(self, expected: int) -> tuple[Chunk | None, bool]:
        """The chunk at the buffer's first byte, and whether there were bytes enough to decide."""
        if self._fill(START_BYTES) < START_BYTES:
            return None, False
        start = read_start(bytes(self._buffer[:START_BYTES]), self.header)
        if start is None:
            return None, True
        sequence, size = start
        ahead = (sequence - expected) % SEQUENCE_NUMBERS
        if ahead > MAX_LOST_CHUNKS:
            return None, True
        if self._fill(size) < size:
            return None, False
        if 8 * (self._effort + size) > SEARCH_EFFORT * self.bits_read:
            return None, True  # hostile: too many false chunks were checked already
        data = bytes(self._buffer[:size])
        chunk = Chunk.from_bytes(data, self.header, self._seed, expected + ahead)
        self._effort += size if chunk is None else 0
        return chunk, True

    def _count(self, chunk: Chunk) -> None:
        """Set frames and, at the end, samples."""
        header = self.header
        self.frames = chunk.number * header.chunk_frames + chunk.frames(header)
        if chunk.end is not None and chunk.end.unused_samples is not None:
            samples = self.frames * header.hop_length - chunk.end.unused_samples
            if samples < 0:
                self._note("its end contradicts its length")
            else:
                self.samples = samples

    def _skip(self) -> int:
        """Drop bytes up to the next one that may begin a chunk; returns their number."""
        following = self._buffer.find(self.header.stream_id & 0xFF, 1)
        count = len(self._buffer) if following < 0 else following
        del self._buffer[:count]
        return count

    def _fill(self, size: int) -> int:
        """Read until the buffer holds `size` bytes or the file ends; returns the buffer's size."""
        # In pieces: a file may return less than requested, and some allocate the requested size.
        while len(self._buffer) < size and not self._exhausted:
            piece = self._file.read(min(size - len(self._buffer), _READ_PIECE_BYTES))
            self._exhausted = not piece
            self._buffer += piece
            self.bits_read += 8 * len(piece)
        return len(self._buffer)

    def _note(self, problem: str, intact: str | None = None) -> None:
        """Keep the first problem."""
        if self._problem is None:
            message = f"The stream is damaged: {problem}; {intact or self._recovered()}"
            self._problem = CorruptStreamError(message)

    def _recovered(self) -> str:
        seconds = self.frames * self.header.hop_length / SAMPLING_RATE_HZ
        return (
            f"{self.frames} frames ({seconds:.2f} s) before that are intact. --partial uses "
            "all intact chunks; in Python they are `stream` of the error."
        )
