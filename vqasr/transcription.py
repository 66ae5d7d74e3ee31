"""One input file to text, whatever it is: audio or a stream."""

import math
from pathlib import Path
from typing import Any

from vqasr.adapters.load_reader import load_reader, reads_codes_only
from vqasr.adapters.reader import CodesReader
from vqasr.adapters.recogniser import load_recogniser
from vqasr.adapters.segments import Segment
from vqasr.audio.files import read_audio
from vqasr.codec.mel import SAMPLING_RATE_HZ
from vqasr.codec.modeling import VQCodecModel
from vqasr.compression import audio_to_stream, check_codec
from vqasr.entropy.prior import CodePrior
from vqasr.errors import AudioError, InvalidCodesError, RecogniserError, VqasrError
from vqasr.files import read_file
from vqasr.stream.header import is_stream
from vqasr.stream.whole import read_part


class Transcriber:
    """Transcribes audio files and `.vqs` streams.

    Args:
        asr: name of the recogniser, as `load_reader` takes it.
        adapter: of a Whisper: folder or hub id; None for the one that ships for it.
        codec: encodes audio; loaded only when there is audio to encode.
        uncompressed: give the recogniser the audio itself.
        prior: the one that wrote the streams; None for the one that ships for their codec.
    """

    def __init__(
        self,
        asr: str = "tiny.en",
        adapter: str | None = None,
        codec: str = "vqasr-base",
        uncompressed: bool = False,
        prior: CodePrior | None = None,
    ):
        self._prior = prior
        self._codec_name = codec
        self._codec: VQCodecModel | None = None
        self._codes: CodesReader | None = None
        if uncompressed and reads_codes_only(asr):
            raise RecogniserError(
                f"{asr} reads codes only and cannot hear audio. Leave --uncompressed out, or use a "
                "Whisper (--asr tiny.en)."
            )
        if uncompressed:
            self._plain = load_recogniser(asr)
        else:
            self._codes = load_reader(asr, adapter)

    def __call__(
        self,
        path: str | Path,
        num_quantizers: int | None = None,
        partial: bool = False,
        start_s: float = 0.0,
        end_s: float | None = None,
        timestamps: bool = False,
    ) -> dict[str, Any]:
        """Text and cost of one file.

        Args:
            path: an audio file or a stream (recognised by its first bytes).
            num_quantizers: codebooks to listen to; None for all.
            partial: of a broken stream, transcribe what is intact.
            start_s, end_s: the part to transcribe.
            timestamps: with the time of each segment.

        Returns:
            file, text, seconds, bytes, coded_bps and num_quantizers (None when uncompressed); with
            timestamps also segments: start_s and end_s in the whole recording, and text, each.

        Raises:
            AudioError, StreamError: the file cannot be read.
            VqasrError: a stream cannot be heard uncompressed, or holds too few codebooks.
        """
        path = Path(path)
        is_stream = path.suffix == ".vqs" or (path.is_file() and _begins_as_stream(path))
        if self._codes is None:
            if is_stream:
                raise VqasrError(f"{path}: a stream holds no audio to hear with --uncompressed.")
            samples = read_audio(path)[_part(start_s, end_s)]
            heard: str | list[Segment] = [] if timestamps else ""
            if len(samples):  # Whisper makes words up where nothing is
                heard = (
                    self._plain.segments_of_audio(samples)
                    if timestamps
                    else self._plain.transcribe_audio([samples])[0]
                )
            return _result(path, heard, start_s, len(samples), 2 * len(samples), None)
        data = read_file(path) if is_stream else self._encode(path, num_quantizers)
        stream = read_part(data, self._prior, start_s, end_s, partial)
        check_codec(stream, self._codes.codec_fingerprint)
        available = stream.header.num_quantizers
        used = available if num_quantizers is None else num_quantizers
        if not 1 <= used <= available:
            raise InvalidCodesError(
                f"{path}: num_quantizers={used}, but the stream holds {available} codebooks."
            )
        codes = [stream.codes[:used]]
        heard = (
            self._codes.segments_of_codes(codes)[0]
            if timestamps
            else self._codes.transcribe_codes(codes)[0]
        )
        offset_s = stream.start_frame * stream.header.hop_length / SAMPLING_RATE_HZ
        result = _result(path, heard, offset_s, stream.samples, len(data), used)
        if stream.start_frame or end_s is not None:
            result["coded_bps"] = None  # the bytes are those of the whole
        return result

    def _encode(self, path: Path, num_quantizers: int | None) -> bytes:
        if self._codec is None:
            self._codec = VQCodecModel.from_pretrained(self._codec_name).eval()
        return audio_to_stream(self._codec, read_audio(path), num_quantizers, self._prior)


def _part(start_s: float, end_s: float | None) -> slice:
    end = None if end_s is None or math.isinf(end_s) else round(end_s * SAMPLING_RATE_HZ)
    return slice(round(start_s * SAMPLING_RATE_HZ), end)


def _begins_as_stream(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return is_stream(file.read(4))
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror}).") from error


def _result(
    path: Path,
    heard: str | list[Segment],
    offset_s: float,
    samples: int,
    size: int,
    num_quantizers: int | None,
) -> dict[str, Any]:
    seconds = samples / SAMPLING_RATE_HZ
    text = heard if isinstance(heard, str) else " ".join(segment.text for segment in heard)
    result = {
        "file": str(path),
        "text": text,
        "seconds": seconds,
        "bytes": size,
        "coded_bps": 8 * size / seconds if seconds else None,
        "num_quantizers": num_quantizers,
    }
    if not isinstance(heard, str):
        result["segments"] = [
            {
                "start_s": round(offset_s + segment.start_s, 2),
                "end_s": round(offset_s + segment.end_s, 2),
                "text": segment.text,
            }
            for segment in heard
        ]
    return result
