"""The main job on bundled clips: what several rates cost, and what a recogniser still hears."""

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
from vqasr.grid import SAMPLING_RATE_HZ

DEMO_LEVELS = (1, 2, 4, 8)
CTC_LEVELS = (2, 4)


@dataclass
class Clip:
    """A clip with what was said; text None where nobody knows."""

    name: str
    samples: np.ndarray
    text: str | None


@dataclass
class DemoLine:
    """One clip at one rate.

    Attributes:
        clip: name of the clip.
        system: "uncompressed", "N codebooks" (Whisper), or "N, ctc-small".
        bytes: of the stream; of 16-bit samples for "uncompressed".
        coded_bps: 8 x bytes / seconds.
        text: what the recogniser wrote.
        reference: the clip's text, or the uncompressed transcript where there is none.
        wer: of text against reference.
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
    """The short sample clips that ship with the package, or the long one."""
    entries = json.loads((CLIPS / "clips.json").read_text())
    return [
        Clip(e["file"], read_audio(CLIPS / e["file"]), e["text"])
        for e in entries
        if bool(e.get("long")) == long
    ]


def demo_levels(codec: VQCodecModel) -> list[int]:
    """Numbers of codebooks that the demo shows."""
    return [n for n in DEMO_LEVELS if n <= codec.config.num_quantizers]


def demo_clip(
    clip: Clip, codec: VQCodecModel, whisper: WhisperRecogniser, ctc: CTCRecogniser
) -> list[DemoLine]:
    """Transcribe a clip uncompressed and from streams at several rates, with two recognisers."""
    seconds = len(clip.samples) / SAMPLING_RATE_HZ
    plain = whisper.recogniser.transcribe_audio([clip.samples])[0]
    reference = clip.text if clip.text is not None else plain
    streams = {n: compress(clip.samples, codec=codec, num_quantizers=n) for n in demo_levels(codec)}
    results = [("uncompressed", 2 * len(clip.samples), plain)]
    for n, stream in streams.items():
        text = whisper.transcribe_streams([stream])[0]
        results.append((f"{n} codebook{'s' if n > 1 else ''}", len(stream.to_bytes()), text))
    for n in CTC_LEVELS:
        text = ctc.transcribe_streams([streams[n]])[0]
        results.append((f"{n}, ctc-small", len(streams[n].to_bytes()), text))
    lines = []
    for system, size, text in results:
        errors, words = word_errors([reference], [text])
        wer = errors / words if words else None
        rate = 8 * size / seconds
        lines.append(DemoLine(clip.name, system, size, seconds, rate, text, reference, wer))
    return lines


def summary(lines: list[DemoLine]) -> list[str]:
    """One line for each system: rate and WER over all clips together."""
    texts = []
    for system in dict.fromkeys(line.system for line in lines):
        chosen = [line for line in lines if line.system == system]
        bps = 8 * sum(line.bytes for line in chosen) / sum(line.seconds for line in chosen)
        errors, words = word_errors([line.reference for line in chosen], [c.text for c in chosen])
        wer = f"{errors / words:.3f}" if words else "-"
        texts.append(f"{system:13} {bps:9.0f} bps  WER {wer}")
    return texts
