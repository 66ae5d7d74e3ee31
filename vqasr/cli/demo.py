"""Measure bitrate and WER on the bundled clips."""

import json
from dataclasses import dataclass

import numpy as np

from vqasr.adapters.ctc_recogniser import CTCRecogniser
from vqasr.adapters.whisper_recogniser import WhisperRecogniser
from vqasr.assets import CLIPS
from vqasr.audio.files import read_audio
from vqasr.codec.modeling import VQCodecModel
from vqasr.compression.compress import compress
from vqasr.evaluation.error_rates import word_errors
from vqasr.evaluation.systems import uninvented
from vqasr.grid import SAMPLING_RATE_HZ

WHISPER_CODEBOOKS = (1, 2, 4, 8)
CTC_CODEBOOKS = (2, 4)


@dataclass
class Clip:
    """Hold a clip of (samples,) float32 at 16 kHz and its transcript, None if unknown."""

    name: str
    samples: np.ndarray
    text: str | None


@dataclass
class DemoLine:
    """Hold the result of one clip at one rate.

    Attributes:
        clip: its name.
        system: "uncompressed", "N codebooks" (both Whisper tiny.en), or "N, ctc-small".
        bytes: of the stream, or of 16-bit samples.
        seconds: duration of the clip.
        coded_bps: 8 x bytes / seconds.
        text: the hypothesis.
        reference: the clip's transcript; if unknown, the hypothesis without compression.
        wer: word error rate of the hypothesis; None without words in the reference.
    """

    clip: str
    system: str
    bytes: int
    seconds: float
    coded_bps: float
    text: str
    reference: str
    wer: float | None


def bundled_clips(long: bool = False) -> list[Clip]:
    """Load the bundled clips, either the short ones or the long one."""
    entries = json.loads((CLIPS / "clips.json").read_text())
    return [
        Clip(e["file"], read_audio(CLIPS / e["file"]), e["text"])
        for e in entries
        if bool(e.get("long")) == long
    ]


def demo_clip(
    clip: Clip, codec: VQCodecModel, whisper: WhisperRecogniser, ctc: CTCRecogniser
) -> list[DemoLine]:
    """Transcribe a clip uncompressed and from streams at several rates, with two recognisers."""
    texts = whisper.transcribe_audio([clip.samples])
    plain = uninvented(texts, [clip.samples], whisper, codec)[0]
    results = [("uncompressed", 2 * len(clip.samples), plain)]
    numbers = [n for n in WHISPER_CODEBOOKS if n <= codec.config.num_quantizers]
    streams = {n: compress(clip.samples, codec=codec, num_quantizers=n) for n in numbers}
    sizes = {n: len(stream.to_bytes()) for n, stream in streams.items()}
    for n, stream in streams.items():
        text = whisper.transcribe_streams([stream])[0]
        results.append((f"{n} codebook{'s' if n > 1 else ''}", sizes[n], text))
    for n in CTC_CODEBOOKS:
        results.append((f"{n}, ctc-small", sizes[n], ctc.transcribe_streams([streams[n]])[0]))
    seconds = len(clip.samples) / SAMPLING_RATE_HZ
    reference = plain if clip.text is None else clip.text
    lines = []
    for system, size, text in results:
        errors, words = word_errors([reference], [text])
        wer = errors / words if words else None
        rate = 8 * size / seconds
        lines.append(DemoLine(clip.name, system, size, seconds, rate, text, reference, wer))
    return lines


def summary(lines: list[DemoLine]) -> list[str]:
    """Format a line per system: bitrate and WER over all clips."""
    texts = []
    for system in dict.fromkeys(line.system for line in lines):
        chosen = [line for line in lines if line.system == system]
        bps = 8 * sum(line.bytes for line in chosen) / sum(line.seconds for line in chosen)
        errors, words = word_errors([c.reference for c in chosen], [c.text for c in chosen])
        wer = f"{errors / words:.3f}" if words else "-"
        texts.append(f"{system:13} {bps:9.0f} bps  WER {wer}")
    return texts
