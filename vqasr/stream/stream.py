"""Whole ``.vqs`` streams (docs/stream-format.md), in memory and in files."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from vqasr.entropy.bundled import bundled_prior
from vqasr.entropy.packing import check_codes
from vqasr.entropy.prior import CodePrior
from vqasr.errors import CorruptStreamError, StreamError, TruncatedStreamError, VqasrError
from vqasr.files import read_file, replace_file
from vqasr.grid import MISSING, SAMPLING_RATE_HZ, UNVOICED
from vqasr.stream.header import StreamHeader, is_stream, usual_chunk_frames
from vqasr.stream.reader import StreamReader
from vqasr.stream.writer import StreamWriter, derived_id, write_all

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO


@dataclass(frozen=True, eq=False, repr=False)
class Stream:
    """Hold the codes of one recording.

    Example:
        >>> stream = vqasr.compress("talk.wav", bps=300)
        >>> stream.save("talk.vqs")
        >>> vqasr.Stream.load("talk.vqs").trim(1).seconds

    Attributes:
        header: codec, sizes and chunk length.
        codes: (num_quantizers, frames) int64; -2 in lost frames (only in the intact part of a
            damaged stream).
        samples: length of the audio at 16 kHz, with ceil(samples / hop_length) = frames.
        start_frame: not 0 where only a later part was read.
        prior: the one that read the stream or will write it; None for the one that ships for the
            codec, if there is one.
        pitch: (frames,) int64 codes of the fundamental frequency (`vqasr.audio.pitch_tracker`), 0
            in lost frames; None without, as header.pitch says.
        truncated: whether the end of the stream that it was read from is missing or damaged; how
            much that is, is unknown.
    """

    header: StreamHeader
    codes: npt.NDArray[np.int64]
    samples: int
    start_frame: int = 0
    prior: CodePrior | None = None
    pitch: npt.NDArray[np.int64] | None = None
    truncated: bool = False

    @classmethod
    def load(
        cls,
        source: Source,
        *,
        start_s: float = 0.0,
        end_s: float | None = None,
        partial: bool = False,
        prior: CodePrior | None = None,
        fingerprint: bytes | None = None,
    ) -> Stream:
        """Read a stream.

        Args:
            source: path, bytes, or binary file object (read to its end).
            start_s, end_s: read only the frames that overlap these seconds; chunks outside are
                checked but not decoded.
            partial: return the intact part of a truncated or damaged stream, if there is any.
            prior: the one that wrote the stream; None takes a bundled one where one is needed.
            fingerprint: 6 bytes of the codec in use, to refuse other codecs' streams.

        Raises:
            StreamError: not exactly one whole stream; `error.stream` is the intact part.
            OSError: the file cannot be read.
        """
        if isinstance(source, bytes | bytearray | memoryview):
            source = io.BytesIO(source)
        with ExitStack() as stack:
            if isinstance(source, str | os.PathLike):
                source = stack.enter_context(open(source, "rb"))
            try:
                return _read(StreamReader(source, fingerprint, prior), start_s, end_s)
            except StreamError as error:
                if not partial or error.stream is None:
                    raise
                intact: Stream = error.stream
                return intact

    def to_bytes(self, *, stream_id: int | None = None) -> bytes:
        """Write the stream to bytes: the same for the same codes, on any machine.

        Args:
            stream_id: 0 to 65535; None derives it from the codes, or, where they are fewer than a
                chunk, writes a single chunk, which has none.

        Raises:
            InvalidCodesError, StreamError: codes, samples and prior do not fit together.
        """
        header = self.header
        if isinstance(self.codes, np.ndarray) and self.lost_frames:
            raise StreamError(
                f"{self.lost_frames} of {self.frames} frames were lost, and a stream has no gaps: "
                "`cut` the intact parts and `join` them."
            )
        check_codes(self.codes, header.num_quantizers, header.bits_per_code)
        if stream_id is None and self.frames >= header.chunk_frames:
            stream_id = derived_id(self.codes, header.bits_per_code)
        buffer = io.BytesIO()
        prior = self.prior or bundled_prior(header.fingerprint)
        writer = StreamWriter(buffer, header, prior, stream_id)
        writer.write(self.codes, self.pitch)
        writer.close(self.samples)
        return buffer.getvalue()

    def save(
        self,
        destination: str | os.PathLike[str] | BinaryIO,
        *,
        stream_id: int | None = None,
    ) -> int:
        """Write the stream to a path or a binary file object; returns the number of bytes.

        A file at the path is replaced only once the new one is complete; nothing is written when
        the codes are refused. Arguments and errors as `to_bytes`, or OSError.
        """
        data = self.to_bytes(stream_id=stream_id)
        if isinstance(destination, str | os.PathLike):
            replace_file(destination, data)
        else:
            write_all(destination, data)
            destination.flush()
        return len(data)

    def trim(self, num_quantizers: int, *, pitch: bool = True) -> Stream:
        """Keep the first codebooks, as if the encoder had used only these.

        Args:
            num_quantizers: number of codebooks.
            pitch: keep the fundamental frequency too, if there is one.

        Raises:
            InvalidCodesError: `num_quantizers` is out of range.
        """
        self.header.check_trim(num_quantizers)
        kept = self.pitch if pitch else None
        header = replace(self.header, num_quantizers=num_quantizers, pitch=kept is not None)
        return replace(self, header=header, codes=self.codes[:num_quantizers], pitch=kept)

    def cut(self, start_s: float, end_s: float | None = None) -> Stream:
        """Keep the frames that overlap [start_s, end_s) seconds.

        Raises:
            StreamError: not 0 <= start_s <= end_s.
        """
        first, last = _frame_range(self.header, self.frames, start_s, end_s)
        return replace(
            self._rechunked(last - first),
            codes=self.codes[:, first:last],
            samples=_part_samples(self.header, self.samples, first, last),
            start_frame=self.start_frame + first,
            pitch=None if self.pitch is None else self.pitch[first:last],
        )

    @staticmethod
    def join(streams: Iterable[Stream]) -> Stream:
        """Join streams of one codec and number of codebooks, one after another.

        Every part but the last is filled up to a whole frame, which adds at most one frame (40 ms)
        of decoded audio. The length of chunks is that of the first part, or, where that is the
        usual one for its length, the usual one for the whole.

        Raises:
            StreamError: there are none, or they differ in codec or sizes.
        """
        streams = list(streams)
        if not streams:
            raise StreamError("there are no streams to join.")
        kinds = [_kind(stream) for stream in streams]
        for i, kind in enumerate(kinds):
            if kind != kinds[0]:
                raise StreamError(
                    f"stream {i + 1} has {kind}, the first {kinds[0]}. Only streams of one codec "
                    "with equally many codebooks can be joined; `vqasr trim` drops codebooks and "
                    "pitch."
                )
        codes = np.concatenate([stream.codes for stream in streams], axis=1)
        unused = streams[-1].frames * streams[-1].header.hop_length - streams[-1].samples
        samples = codes.shape[1] * streams[0].header.hop_length - unused
        pitches = [stream.pitch for stream in streams if stream.pitch is not None]
        pitch = np.concatenate(pitches) if pitches else None
        whole = streams[0]._rechunked(codes.shape[1])
        truncated = any(stream.truncated for stream in streams)
        return replace(whole, codes=codes, samples=samples, pitch=pitch, truncated=truncated)

    def notes(self) -> list[str]:
        """Say what is missing in the intact part of a damaged stream."""
        notes = []
        if self.lost_frames:
            notes.append(f"{self.lost_frames} of {self.frames} frames are lost")
        if self.truncated:
            notes.append("the end of the stream is missing or damaged")
        return notes

    def _rechunked(self, frames: int) -> Stream:
        """With the usual length of chunks for a number of frames, unless it has an unusual one."""
        header = replace(self.header, single=False, stream_id=0)
        if header.chunk_frames == usual_chunk_frames(self.frames):
            header = replace(header, chunk_frames=usual_chunk_frames(frames))
        return replace(self, header=header)

    def __repr__(self) -> str:
        return (
            f"Stream({self.seconds:.2f} s, num_quantizers={self.header.num_quantizers}, "
            f"frames={self.frames}, codec={self.header.fingerprint.hex()})"
        )

    @property
    def frames(self) -> int:
        """Number of frames."""
        return int(self.codes.shape[1])

    @property
    def lost_frames(self) -> int:
        """Number of frames that were lost."""
        return int((self.codes[0] == MISSING).sum())

    @property
    def seconds(self) -> float:
        """Length of the audio in seconds."""
        return self.samples / SAMPLING_RATE_HZ


def _read(reader: StreamReader, start_s: float, end_s: float | None) -> Stream:
    """The frames that overlap [start_s, end_s) seconds; errors hold their intact part."""
    header = reader.header
    intact = list(reader.intact_chunks())
    first, last = _frame_range(header, reader.frames, start_s, end_s)
    length = header.chunk_frames
    overlapping = [c for c in intact if first - length < c.number * length < last]
    codes = np.full((header.num_quantizers, reader.frames), MISSING, np.int64)
    pitch = np.full(reader.frames, UNVOICED, np.int64) if header.pitch else None
    for part in reader.decode(overlapping):
        place = slice(part.start_frame, part.start_frame + part.codes.shape[1])
        codes[:, place] = part.codes
        if pitch is not None and part.pitch is not None:
            pitch[place] = part.pitch
    samples = reader.frames * header.hop_length if reader.samples is None else reader.samples
    samples = _part_samples(header, samples, first, last)
    stream = Stream(
        header, codes[:, first:last], samples, first, reader.prior,
        None if pitch is None else pitch[first:last], reader.samples is None,
    )  # fmt: skip
    try:
        reader.raise_problem()
    except (TruncatedStreamError, CorruptStreamError) as error:
        if intact or isinstance(error, TruncatedStreamError):
            error.stream = stream
        raise
    return stream


def _frame_range(
    header: StreamHeader, frames: int, start_s: float, end_s: float | None
) -> tuple[int, int]:
    """First and last (exclusive) of the frames that overlap [start_s, end_s) seconds."""
    end_s = math.inf if end_s is None else end_s
    if not 0 <= start_s <= end_s or math.isinf(start_s):
        raise StreamError(f"start_s={start_s}, end_s={end_s}: 0 <= start_s <= end_s is needed.")
    last = frames
    if end_s < frames * header.hop_length / SAMPLING_RATE_HZ:  # also keeps huge numbers out
        last = -(-round(end_s * SAMPLING_RATE_HZ) // header.hop_length)
    start_s = min(start_s, frames * header.hop_length / SAMPLING_RATE_HZ)
    if start_s >= end_s:
        return last, last
    return min(round(start_s * SAMPLING_RATE_HZ) // header.hop_length, last), last


def _part_samples(header: StreamHeader, samples: int, first: int, last: int) -> int:
    """Samples in frames [first, last) of audio that has `samples` of them."""
    return max(0, min(samples, last * header.hop_length) - first * header.hop_length)


def _kind(stream: Stream) -> str:
    header = stream.header
    return (
        f"codec {header.fingerprint.hex()}, {header.num_quantizers} codebooks of "
        f"{header.bits_per_code} bits, frames of {header.hop_length} samples and "
        f"{'a' if header.pitch else 'no'} pitch"
    )


def stream_bytes(source: object) -> bytes | None:
    """Return the bytes of a stream, from bytes or a path; None for other sources, as audio.

    Raises:
        VqasrError: the file cannot be read.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source) if is_stream(bytes(source[:4])) else None
    if not isinstance(source, str | os.PathLike):
        return None
    path = Path(source)
    if path.suffix == ".vqs":
        return read_file(path)
    if not path.is_file() or not path.stat().st_size:
        return None
    try:
        with open(path, "rb") as file:
            begins = is_stream(file.read(4))
    except OSError as error:
        raise VqasrError(f"{path}: cannot be read ({error.strerror}).") from error
    return read_file(path) if begins else None
