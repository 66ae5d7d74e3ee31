"""Anything that holds speech to text: audio, or a stream."""

import dataclasses
import math
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from vqasr.adapters.load_recogniser import load_recogniser, reads_codes_only
from vqasr.adapters.original_whisper import load_whisper
from vqasr.adapters.recogniser import Recogniser
from vqasr.adapters.segments import Segment
from vqasr.audio.sources import Sound, load_audio
from vqasr.codec.modeling import VQCodecModel
from vqasr.compression.compress import check_codec, compress, load_codec
from vqasr.entropy.prior import CodePrior
from vqasr.errors import AudioError, RecogniserError, VqasrError
from vqasr.files import read_file
from vqasr.grid import SAMPLING_RATE_HZ
from vqasr.stream.header import is_stream
from vqasr.stream.stream import Stream


@dataclass(frozen=True)
class Transcript:
    """Text of one recording or stream, and what its bits were.

    Attributes:
        text: all of it.
        seconds: of the audio that was transcribed.
        bytes: of the stream (of its file, where it was read from one), or of 16-bit samples where
            the recogniser heard the audio itself.
        coded_bps: 8 x bytes / seconds; None where only a part of a stream was transcribed.
        num_quantizers: codebooks in use; None for uncompressed audio.
        segments: with their times in the whole recording, where times were asked for.
    """

    text: str
    seconds: float
    bytes: int
    coded_bps: float | None
    num_quantizers: int | None
    segments: list[Segment] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON; segments only where there are times."""
        values = dataclasses.asdict(self)
        if self.segments is None:
            del values["segments"]
        return values


class Transcriber:
    """Transcribes audio and `.vqs` streams with one recogniser.

    Args:
        asr: name of the recogniser, as `load_recogniser` takes it.
        adapter: of a Whisper: folder or hub id; None for the one that ships for it.
        codec: compresses audio; loaded only when there is audio to compress.
        uncompressed: give the recogniser the audio itself.
        prior: the one that wrote the streams; None for the one that ships for their codec.
        language, task: of a multilingual Whisper, see `load_whisper`.

    Raises:
        RecogniserError: the recogniser cannot be loaded, or cannot do what is asked.
    """

    def __init__(
        self,
        asr: str = "tiny.en",
        *,
        adapter: str | None = None,
        codec: str | os.PathLike[str] | VQCodecModel = "vqasr-base",
        uncompressed: bool = False,
        prior: CodePrior | None = None,
        language: str | None = None,
        task: str | None = None,
    ):
        self._prior = prior
        self._codec = codec
        self._codes: Recogniser | None = None
        if uncompressed and reads_codes_only(asr):
            raise RecogniserError(
                f"{asr} reads codes only and cannot hear audio. Leave --uncompressed out, or use a "
                "Whisper (--asr tiny.en)."
            )
        if uncompressed:
            self._plain = load_whisper(asr, language, task)
        else:
            self._codes = load_recogniser(asr, adapter, language, task)

    def __call__(
        self,
        source: Stream | Sound,
        *,
        num_quantizers: int | None = None,
        bps: float | None = None,
        partial: bool = False,
        start_s: float = 0.0,
        end_s: float | None = None,
        timestamps: bool = False,
    ) -> Transcript:
        """Transcribe one recording or stream.

        Args:
            source: a `Stream`; path or bytes of one (recognised by its first bytes); or audio, as
                `load_audio` takes it.
            num_quantizers: codebooks to read; None for all.
            bps: compress audio to about this rate instead.
            partial: of a broken stream, transcribe what is intact.
            start_s, end_s: the part to transcribe.
            timestamps: with the time of each segment.

        Raises:
            AudioError, StreamError: the source cannot be read.
            InvalidCodesError: the rate is out of range, or a stream holds too few codebooks.
            VqasrError: a stream cannot be heard uncompressed, or given another rate.
        """
        data = _stream_bytes(source)
        if self._codes is None:
            if data is not None or isinstance(source, Stream):
                raise VqasrError("a stream holds no audio to hear with --uncompressed.")
            return self._heard(load_audio(source), start_s, end_s, timestamps)
        whole = start_s == 0 and end_s is None
        if data is not None:
            if bps is not None:
                raise VqasrError("bps is for audio; a stream has its rate. Use num_quantizers.")
            stream = Stream.load(
                data, prior=self._prior, start_s=start_s, end_s=end_s, partial=partial
            )
            size = len(data)
        else:
            stream = source if isinstance(source, Stream) else self._compress(
                source, num_quantizers, bps
            )  # fmt: skip
            size = len(stream.to_bytes()) if whole else 0
            stream = stream if whole else stream.cut(start_s, end_s)
        check_codec(stream, self._codes.codec_fingerprint)
        stream = stream if num_quantizers is None else stream.trim(num_quantizers)
        text, segments = self._read(stream, timestamps)
        bits = 8 * size / stream.seconds if whole and stream.seconds else None
        return Transcript(text, stream.seconds, size, bits, stream.header.num_quantizers, segments)

    def _compress(self, source: Sound, num_quantizers: int | None, bps: float | None) -> Stream:
        self._codec = load_codec(self._codec)
        return compress(
            source, codec=self._codec, num_quantizers=num_quantizers, bps=bps, prior=self._prior
        )

    def _read(self, stream: Stream, timestamps: bool) -> tuple[str, list[Segment] | None]:
        assert self._codes is not None  # for the type checker; the caller has looked
        if not timestamps:
            return self._codes.transcribe_codes([stream.codes])[0], None
        offset_s = stream.start_frame * stream.header.hop_length / SAMPLING_RATE_HZ
        return _shifted(self._codes.segments_of_codes([stream.codes])[0], offset_s)

    def _heard(
        self, samples: np.ndarray, start_s: float, end_s: float | None, timestamps: bool
    ) -> Transcript:
        end = None if end_s is None or math.isinf(end_s) else round(end_s * SAMPLING_RATE_HZ)
        samples = samples[round(start_s * SAMPLING_RATE_HZ) : end]
        text = ""
        segments: list[Segment] | None = [] if timestamps else None
        if len(samples) and timestamps:
            text, segments = _shifted(self._plain.segments_of_audio(samples), start_s)
        elif len(samples):
            text = self._plain.transcribe_audio([samples])[0]
        seconds, size = len(samples) / SAMPLING_RATE_HZ, 2 * len(samples)
        return Transcript(text, seconds, size, 8 * size / seconds if seconds else None, None,
                          segments)  # fmt: skip


def transcribe(
    source: Stream | Sound,
    *,
    asr: str = "tiny.en",
    adapter: str | None = None,
    codec: str = "vqasr-base",
    language: str | None = None,
    task: str | None = None,
    num_quantizers: int | None = None,
    bps: float | None = None,
    timestamps: bool = False,
) -> Transcript:
    """Transcribe audio or a stream; the recogniser stays loaded for the next call.

    Arguments and errors as in `Transcriber`.
    """
    transcriber = _transcriber(asr, adapter, codec, language, task)
    return transcriber(source, num_quantizers=num_quantizers, bps=bps, timestamps=timestamps)


@lru_cache(maxsize=2)
def _transcriber(
    asr: str, adapter: str | None, codec: str, language: str | None, task: str | None
) -> Transcriber:
    return Transcriber(asr, adapter=adapter, codec=codec, language=language, task=task)


def _stream_bytes(source: Any) -> bytes | None:
    """Bytes of a stream, from bytes or a path; None where the source is something else."""
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source) if is_stream(bytes(source[:4])) else None
    if not isinstance(source, str | os.PathLike):
        return None
    path = Path(source)
    if path.suffix == ".vqs":
        return read_file(path)
    if not path.is_file():
        return None
    try:
        with open(path, "rb") as file:
            begins = is_stream(file.read(4))
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror}).") from error
    return read_file(path) if begins else None


def _shifted(segments: list[Segment], offset_s: float) -> tuple[str, list[Segment]]:
    """Text and segments, in the time of the whole recording."""
    moved = [
        Segment(round(offset_s + s.start_s, 2), round(offset_s + s.end_s, 2), s.text)
        for s in segments
    ]
    return " ".join(segment.text for segment in moved), moved
