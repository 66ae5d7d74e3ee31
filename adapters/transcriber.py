"""Transcribe audio or streams."""

import dataclasses
import math
import os
import warnings
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from vqasr.adapters.loading import load_recogniser, reads_codes_only
from vqasr.adapters.original_whisper import OriginalWhisper, load_whisper
from vqasr.adapters.recogniser import Recogniser
from vqasr.adapters.segments import Segment
from vqasr.audio.sources import Sound, load_audio
from vqasr.codec.modeling import VQCodecModel
from vqasr.compression.compress import compress, kept_codec
from vqasr.entropy.prior import CodePrior
from vqasr.errors import AudioError, AudioWarning, RecogniserError, VqasrError
from vqasr.files import is_pipe, read_file
from vqasr.grid import SAMPLING_RATE_HZ
from vqasr.stream.stream import Stream, stream_bytes


@dataclass(frozen=True)
class Transcript:
    """Hold the text of a recording or stream, and its bitrate.

    Attributes:
        text: the whole transcript.
        seconds: of the audio that was transcribed.
        bytes: of the stream, of a part's own stream (0 if it has lost frames), or of 16-bit samples
            for uncompressed audio.
        coded_bps: 8 x bytes / seconds; None without bytes or seconds.
        num_quantizers: number of codebooks; None for uncompressed audio.
        segments: with timestamps in the whole recording; None without timestamps.
    """

    text: str
    seconds: float
    bytes: int
    coded_bps: float | None
    num_quantizers: int | None
    segments: list[Segment] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; segments only if there are timestamps."""
        values = dataclasses.asdict(self)
        if self.segments is None:
            del values["segments"]
        return values


class Transcriber:
    """Transcribe audio and `.vqs` streams with one recogniser.

    Args:
        asr: name of the recogniser, as `load_recogniser` takes it.
        adapter: folder or hub id; None for the one bundled for the recogniser.
        codec: compresses audio; loaded at the first use.
        uncompressed: transcribe audio without compression, and no streams.
        prior: of the streams; None for the one bundled for their codec.
        language, task: of a multilingual Whisper, see `load_whisper`.
        device: of the recogniser, such as "cuda"; audio is compressed on the CPU.

    Raises:
        RecogniserError: the recogniser cannot be loaded, or lacks the language, task or
            `uncompressed`; or there is no such device.
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
        device: str = "cpu",
    ):
        self._prior = prior
        self._codec = codec
        self._recogniser: Recogniser | OriginalWhisper
        if not uncompressed:
            self._recogniser = load_recogniser(asr, adapter, language, task)
        elif reads_codes_only(asr):
            raise RecogniserError(
                f"{asr} reads codes only, not audio. Leave --uncompressed out, or use a Whisper "
                "(--asr tiny.en)."
            )
        else:
            self._recogniser = load_whisper(asr, language, task)
        self._recogniser.to(device)

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
        sampling_rate: int | None = None,
    ) -> Transcript:
        """Transcribe one recording or stream.

        Args:
            source: a `Stream`; path or bytes of one (detected by its first bytes); or audio, as
                `load_audio` takes it.
            num_quantizers: number of codebooks to read; None for all.
            bps: target bitrate for audio, instead of num_quantizers.
            partial: transcribe the intact part of a damaged stream.
            start_s, end_s: the part to transcribe.
            timestamps: return segments.
            sampling_rate: of arrays and tensors in Hz; None for 16,000.

        Raises:
            AudioError, StreamError: the source cannot be read.
            InvalidCodesError: the rate is out of range, or a stream holds too few codebooks.
            VqasrError: bps or `uncompressed` with a stream, or timestamps is no bool.

        Warns:
            AudioWarning: frames of the stream are lost, it is cut off or has nothing from start_s
                on, or as `load_audio`.
        """
        if not isinstance(timestamps, bool):
            raise VqasrError(
                f"timestamps={timestamps!r}: must be True or False. Timestamps of words come from "
                "CodesPipeline (vqasr.adapters), a pipeline of transformers, with "
                'return_timestamps="word".'
            )
        name = source if isinstance(source, str | os.PathLike) else "the stream"
        if isinstance(source, str | os.PathLike) and is_pipe(source):
            source = read_file(source)  # which is possible once
        data = stream_bytes(source)
        if isinstance(self._recogniser, OriginalWhisper):
            if data is not None or isinstance(source, Stream):
                raise VqasrError("a stream holds no audio: leave --uncompressed out.")
            samples = load_audio(source, sampling_rate)
            return _transcribe_audio(self._recogniser, samples, start_s, end_s, timestamps)
        if bps is not None and (data is not None or isinstance(source, Stream)):
            raise VqasrError("bps is for audio; a stream has its rate. Use num_quantizers.")
        whole = start_s == 0 and end_s is None
        if data is not None:
            stream = Stream.load(
                data, prior=self._prior, start_s=start_s, end_s=end_s, partial=partial
            )
        else:
            if isinstance(source, Stream):
                stream = source
            else:
                self._codec = kept_codec(self._codec)
                stream = compress(
                    source, codec=self._codec, num_quantizers=num_quantizers, bps=bps,
                    prior=self._prior, sampling_rate=sampling_rate,
                )  # fmt: skip
            stream = stream if whole else stream.cut(start_s, end_s)
        if data is not None and whole:
            size = len(data)
        else:  # what has lost frames cannot be written
            size = 0 if stream.lost_frames else len(stream.to_bytes())
        stream.header.check_codec(self._recogniser.codec_fingerprint)
        notes = [f"{note}; the text lacks words." for note in stream.notes()]
        if not (whole or stream.frames) and (end_s is None or end_s > start_s):
            notes.append(f"there is nothing from {start_s:g} s on.")
        for note in notes:
            warnings.warn(f"{name}: {note}", AudioWarning, stacklevel=2)
        if num_quantizers is not None:
            stream = stream.trim(num_quantizers)
        if timestamps:
            offset_s = stream.start_frame * stream.header.hop_length / SAMPLING_RATE_HZ
            segments = self._recogniser.segments_of_codes([stream.codes])[0]
            text, segments = _shifted(segments, offset_s)
        else:
            text, segments = self._recogniser.transcribe_codes([stream.codes])[0], None
        bps = 8 * size / stream.seconds if size and stream.seconds else None
        return Transcript(text, stream.seconds, size, bps, stream.header.num_quantizers, segments)


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
    sampling_rate: int | None = None,
) -> Transcript:
    """Transcribe audio or a stream; the recogniser stays loaded for the next call.

    Arguments and errors as in `Transcriber`.
    """
    transcriber = _loaded(asr, adapter=adapter, codec=codec, language=language, task=task)
    return transcriber(
        source, num_quantizers=num_quantizers, bps=bps, timestamps=timestamps,
        sampling_rate=sampling_rate,
    )  # fmt: skip


_loaded = lru_cache(maxsize=2)(Transcriber)


def _transcribe_audio(
    whisper: OriginalWhisper,
    samples: np.ndarray,
    start_s: float,
    end_s: float | None,
    timestamps: bool,
) -> Transcript:
    end_s = math.inf if end_s is None else end_s
    if not 0 <= start_s <= end_s or math.isinf(start_s):
        raise AudioError(f"start_s={start_s}, end_s={end_s}: 0 <= start_s <= end_s is needed.")
    whole_s = len(samples) / SAMPLING_RATE_HZ
    first, last = (round(min(s, whole_s) * SAMPLING_RATE_HZ) for s in (start_s, end_s))
    samples = samples[first:last]
    text = ""
    segments: list[Segment] | None = [] if timestamps else None
    if len(samples) and timestamps:
        text, segments = _shifted(whisper.segments_of_audio(samples), start_s)
    elif len(samples):
        text = whisper.transcribe_audio([samples])[0]
    seconds, size = len(samples) / SAMPLING_RATE_HZ, 2 * len(samples)
    return Transcript(text, seconds, size, 8 * size / seconds if seconds else None, None, segments)


def _shifted(segments: list[Segment], offset_s: float) -> tuple[str, list[Segment]]:
    """Return text and segments, with timestamps in the whole recording."""
    shifted = [
        Segment(round(offset_s + s.start_s, 2), round(offset_s + s.end_s, 2), s.text)
        for s in segments
    ]
    return " ".join(segment.text for segment in shifted), shifted
