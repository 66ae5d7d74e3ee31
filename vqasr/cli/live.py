"""Encode audio from standard input while it comes in."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vqasr.audio.live import Begun, LiveAudio
from vqasr.cli.options import audio_warnings, err
from vqasr.compression.compress import LiveEncoder, stream_header
from vqasr.entropy.bundled import bundled_prior
from vqasr.errors import VqasrError
from vqasr.grid import SAMPLING_RATE_HZ
from vqasr.stream.writer import StreamWriter

if TYPE_CHECKING:
    from vqasr.codec.modeling import VQCodecModel
    from vqasr.compression.rates import OperatingPoint
    from vqasr.entropy.prior import CodePrior

CHUNK_FRAMES = 5  # 0.2 s


def standard_input() -> Begun:
    """Return standard input with its first bytes; raise VqasrError if it is empty."""
    file = Begun(sys.stdin.buffer, 4)
    if not file.head:
        raise VqasrError("standard input is empty; it can be read once in a command.")
    return file


@contextmanager
def ends_at_ctrl_c(audio: LiveAudio) -> Iterator[None]:
    """Let Ctrl-C end the audio, as the usual end of a recording; a second one interrupts."""

    def stop(*_: object) -> None:
        audio.stop()
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def encode_live(
    codec: "VQCodecModel",
    point: "OperatingPoint",
    chunk_frames: int | None,
    prior: "CodePrior | None",
    pcm_hz: int | None,
) -> None:
    """Encode standard input to standard output, chunk by chunk.

    Ctrl-C ends the stream like the end of the input. An error leaves a stream that readers report
    as truncated, with all frames before it.
    """
    audio = LiveAudio(standard_input(), pcm_hz)
    prior = prior or bundled_prior(codec.fingerprint())
    header = stream_header(codec, point.num_quantizers, chunk_frames or CHUNK_FRAMES)
    encoder = LiveEncoder(codec, point=point, prior=prior)
    with (
        audio_warnings(),
        ends_at_ctrl_c(audio),
        StreamWriter(sys.stdout.buffer, header, prior) as writer,
    ):
        for piece in audio:
            writer.write(encoder.push(piece))
        writer.write(encoder.finish())
        writer.close(encoder.samples)
    rate = writer.bits_written * SAMPLING_RATE_HZ / max(1, encoder.samples)
    err.print(f"-: {writer.bits_written // 8} bytes, {rate:.0f} bps", highlight=False)
