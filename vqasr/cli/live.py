"""Encode, decode and transcribe audio and streams while they come in."""

import signal
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np

from vqasr.audio.arrays import to_pcm
from vqasr.audio.live import LiveAudio
from vqasr.audio.pitch_tracker import LivePitch
from vqasr.cli.inputs import first_ctrl_c_waits, standard_input
from vqasr.cli.options import audio_warnings, err, shown
from vqasr.compression.compress import (
    LiveDecoder,
    LiveEncoder,
    check_sizes,
    load_codec,
    stream_header,
)
from vqasr.entropy.bundled import bundled_prior
from vqasr.errors import VqasrError
from vqasr.grid import SAMPLING_RATE_HZ
from vqasr.stream.header import is_stream
from vqasr.stream.reader import StreamReader
from vqasr.stream.writer import StreamWriter, write_all

if TYPE_CHECKING:
    from vqasr.adapters.recogniser import Recogniser
    from vqasr.audio.devices import Microphone
    from vqasr.codec.modeling import VQCodecModel
    from vqasr.compression.rates import OperatingPoint
    from vqasr.entropy.prior import CodePrior

CHUNK_FRAMES = 5  # 0.2 s
PIECE_FRAMES = 25  # of a long chunk are decoded together, so that its first second comes soon


@contextmanager
def ends_at_ctrl_c(audio: "LiveAudio | Microphone") -> Iterator[None]:
    """Let Ctrl-C or SIGTERM end the audio, as the usual end of a recording.

    The second signal interrupts.
    """

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(*_: object) -> None:
        restore()
        audio.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        restore()


def read_pcm(rate_hz: int) -> np.ndarray:
    """Read raw samples from standard input to its end or Ctrl-C: (samples,) float32 at 16 kHz."""
    audio = LiveAudio(standard_input(), rate_hz)
    with ends_at_ctrl_c(audio):
        return np.concatenate(list(audio))


def encode_live(
    audio: "LiveAudio | Microphone",
    file: BinaryIO,
    codec: "VQCodecModel",
    point: "OperatingPoint",
    chunk_frames: int | None,
    prior: "CodePrior | None",
    pitch: bool,
    name: str,
) -> None:
    """Encode audio to a file, chunk by chunk.

    Ctrl-C ends the stream like the end of the audio. An error leaves a stream that readers report
    as truncated, with all frames before it.
    """
    prior = prior or bundled_prior(codec.fingerprint())
    header = stream_header(codec, point.num_quantizers, chunk_frames or CHUNK_FRAMES, pitch)
    encoder = LiveEncoder(codec, point=point, prior=prior)
    tracker = LivePitch() if pitch else None
    with (
        audio_warnings(),
        ends_at_ctrl_c(audio),
        StreamWriter(file, header, prior) as writer,
    ):
        for piece in audio:
            codes = encoder.push(piece)
            writer.write(codes, None if tracker is None else tracker.push(piece, codes.shape[1]))
        writer.write(encoder.finish(), None if tracker is None else tracker.finish())
        writer.close(encoder.samples)
    rate = writer.bits_written * SAMPLING_RATE_HZ / max(1, encoder.samples)
    err.print(f"{shown(name)}: {writer.bits_written // 8} bytes, {rate:.0f} bps", highlight=False)


def decode_live(
    file: BinaryIO,
    codec: "VQCodecModel",
    decoder: LiveDecoder,
    prior: "CodePrior | None",
    partial: bool,
) -> Iterator[np.ndarray]:
    """Decode a stream; yield its audio, (samples,) float32, as soon as it is complete.

    Damaged streams too; their error comes at the end, unless `partial`.

    Raises:
        StreamError: at once, if it does not begin as a stream of the codec.
    """
    reader = StreamReader(file, codec.fingerprint(), prior)
    check_sizes(reader.header, codec)

    def pieces() -> Iterator[np.ndarray]:
        for chunk in reader.filled_chunks():
            for start in range(0, chunk.codes.shape[1], PIECE_FRAMES):
                part = slice(start, start + PIECE_FRAMES)
                pitch = None if chunk.pitch is None else chunk.pitch[part]
                yield decoder.push(chunk.codes[:, part], pitch)
        yield decoder.finish()

    def cut() -> Iterator[np.ndarray]:
        done = 0
        for samples in pieces():
            if reader.samples is not None:
                samples = samples[: max(0, reader.samples - done)]
            done += len(samples)
            yield samples
        if not partial:
            reader.raise_problem()

    return cut()


def write_live(audio: Iterator[np.ndarray]) -> None:
    """Write audio to standard output as it comes: a WAV file whose header has no length."""
    write_all(sys.stdout.buffer, wav_header())
    for samples in audio:
        write_all(sys.stdout.buffer, to_pcm(samples))
        sys.stdout.buffer.flush()


def transcribe_live(
    recogniser: "Recogniser",
    codec: str,
    prior: "CodePrior | None",
    *,
    num_quantizers: int | None,
    bps: float | None,
    pcm_hz: int | None,
    partial: bool,
) -> None:
    """Print the text of standard input, audio or a stream, as soon as it is certain."""
    from vqasr.adapters.agreement import AgreementStream
    from vqasr.adapters.ctc_recogniser import CTCRecogniser
    from vqasr.adapters.ctc_stream import CTCStream

    text: AgreementStream | CTCStream = AgreementStream(recogniser)
    if isinstance(recogniser, CTCRecogniser) and recogniser.search is None:
        text = CTCStream(recogniser)

    def show(words: str) -> None:
        print(words, end="", flush=True)

    source = standard_input()
    if pcm_hz is None and is_stream(source.head):
        if bps is not None:
            raise VqasrError("bps is for audio; a stream has its rate. Use num_quantizers.")
        reader = StreamReader(cast("BinaryIO", source), recogniser.codec_fingerprint, prior)
        if num_quantizers is not None:
            reader.header.check_trim(num_quantizers)
        with first_ctrl_c_waits():
            for chunk in reader.filled_chunks():
                show(text.push(chunk.codes[:num_quantizers]))
        print(text.finish())
        if not partial:
            reader.raise_problem()
        return
    model = load_codec(codec)
    audio = LiveAudio(source, pcm_hz, first_piece=model.config.first_piece)
    encoder = LiveEncoder(model, num_quantizers=num_quantizers, bps=bps, prior=prior)
    with audio_warnings(), ends_at_ctrl_c(audio):
        try:
            for piece in audio:
                show(text.push(encoder.push(piece)))
        finally:  # an error loses nothing of the text
            show(text.push(encoder.finish()))
            print(text.finish())


def wav_header() -> bytes:
    """Return the header of a WAV file of unknown length, 16 bits, 16 kHz, mono."""
    form = struct.pack("<HHIIHH", 1, 1, SAMPLING_RATE_HZ, 2 * SAMPLING_RATE_HZ, 2, 16)
    unknown = b"\xff" * 4
    return b"RIFF" + unknown + b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + unknown
