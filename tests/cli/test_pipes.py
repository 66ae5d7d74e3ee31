"""Encoding while audio comes in, in a process of its own."""

import array
import fcntl
import io
import signal
import subprocess
import sys
import termios
import time

import numpy as np
import pytest
import soundfile
from cli_helpers import vqasr

from vqasr import LiveEncoder, Stream, StreamReader
from vqasr.assets import CLIPS
from vqasr.audio.live import LiveAudio
from vqasr.audio.resampling import resample
from vqasr.cli.live import ends_at_ctrl_c
from vqasr.errors import TruncatedStreamError
from vqasr.files import Begun

CLIP = CLIPS / "clip01_af_heart.flac"


@pytest.fixture(scope="module")
def raw() -> bytes:
    samples, rate_hz = soundfile.read(CLIP, dtype="int16")
    assert rate_hz == 16_000
    return samples[:48_000].tobytes()


def start(*arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "vqasr", *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
    )  # fmt: skip


def test_chunks_come_before_the_end_and_a_signal_ends_the_stream(raw) -> None:
    process = start("encode", "-", "-o", "-", "-n", 2, "--pcm-hz", 16_000)
    process.stdin.write(raw[:64_000])  # 2 s, and then nothing
    chunks = StreamReader(process.stdout).chunks()
    got = [next(chunks) for _ in range(7)]  # 282.5 ms of look-ahead, and a chunk of 0.2 s
    assert [chunk.start_frame for chunk in got] == list(range(0, 35, 5))
    process.send_signal(signal.SIGINT)
    got += chunks  # the stream has its end
    assert sum(chunk.codes.shape[1] for chunk in got) == 50
    assert process.wait(60) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_audio(number) -> None:
    class Audio:
        stopped = 0

        def stop(self) -> None:
            self.stopped += 1

    audio, before = Audio(), signal.signal(number, signal.default_int_handler)
    try:
        with ends_at_ctrl_c(audio):
            signal.raise_signal(number)
            assert audio.stopped == 1
            with pytest.raises(KeyboardInterrupt):  # of the second one
                signal.raise_signal(number)
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, before)


def test_the_same_codes_at_a_rate(raw) -> None:
    live = vqasr("encode", "-", "-o", "-", "--bps", 400, "--pcm-hz", 16_000, stdin=raw).stdout
    file = io.BytesIO()
    soundfile.write(file, np.frombuffer(raw, np.int16), 16_000, format="WAV")
    whole = vqasr(
        "encode", "-", "-o", "-", "--bps", 400, "--chunk-s", 30, stdin=file.getvalue()
    ).stdout
    one, two = Stream.load(live), Stream.load(whole)
    assert one.header.chunk_s == 0.2
    assert two.header.chunk_s == 30
    assert (one.codes == two.codes).all()
    assert one.samples == two.samples == 48_000


def test_an_error_keeps_what_was_before(tmp_path) -> None:
    samples = np.full(32_000, 0.1, np.float32)
    samples[20_000] = np.nan
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format="WAV", subtype="FLOAT")
    failed = vqasr("encode", "-", "-o", "-", "-n", 1, stdin=file.getvalue(), ok=False)
    assert "is nan" in failed.stderr
    with pytest.raises(TruncatedStreamError):
        Stream.load(failed.stdout)
    kept = Stream.load(failed.stdout, partial=True)
    assert kept.frames == (20_000 - 4520) // 640  # all but the look-ahead


def test_raw_samples_to_a_file(raw, tmp_path) -> None:
    vqasr("encode", "-", "-o", tmp_path / "talk.vqs", "-n", 1, "--pcm-hz", 8_000, stdin=raw)
    assert Stream.load(tmp_path / "talk.vqs").samples == 96_000
    wrong = vqasr("encode", CLIP, "-o", tmp_path, "--pcm-hz", 8_000, ok=False)
    assert "--pcm-hz is for raw samples on standard input" in wrong.stderr
    options = ("-n", 1, "--asr", "ctc-small")
    read = vqasr("transcribe", "-", "--pcm-hz", 8_000, *options, stdin=raw).stdout
    assert len(read.split()) > 1
    assert read.strip() == vqasr("transcribe", tmp_path / "talk.vqs", *options).stdout.strip()


@pytest.mark.parametrize("asr", ["tiny.en", "ctc-small"])
def test_transcribing_live_as_offline(asr, raw, tmp_path) -> None:
    """From raw samples, from a stream, and from a cut stream."""
    data = vqasr("encode", "-", "-o", "-", "-n", 4, "--pcm-hz", 16_000, stdin=raw).stdout
    live = ("transcribe", "-", "--live", "--asr", asr)
    offline = vqasr("transcribe", "-", "--asr", asr, stdin=data).stdout
    assert vqasr(*live, stdin=data).stdout == offline
    if asr == "tiny.en":
        return
    assert vqasr(*live, "-n", 4, "--pcm-hz", 16_000, stdin=raw).stdout == offline
    cut = vqasr(*live, stdin=data[:-20], ok=False)
    assert cut.stdout.split()[:3] == offline.split()[:3]
    assert "ends before its last chunk" in cut.stderr
    few = vqasr(*live, "-n", 6, stdin=data, ok=False)
    assert "1 to 4 can be kept" in few.stderr


def test_live_refused(raw) -> None:
    for wrong in (("x.wav", "--live"), ("-", "--live", "--json"), ("-", "--live", "-o", "x")):
        assert "give - alone" in vqasr("transcribe", *wrong, ok=False).stderr
    wrong = vqasr("transcribe", CLIP, "--pcm-hz", 8000, ok=False)
    assert "--pcm-hz is for raw samples on standard input" in wrong.stderr


@pytest.mark.parametrize("rate_hz", [16_000, 44_100, 48_000])
def test_no_frame_waits_for_a_later_piece(rate_hz, codec, raw) -> None:
    samples, file = np.frombuffer(raw, np.int16) / 32768, io.BytesIO()
    soundfile.write(file, resample(samples, 16_000, rate_hz), rate_hz, format="WAV")
    file.seek(0)
    encoder, frames, read = LiveEncoder(codec, num_quantizers=1), 0, 0
    for piece in LiveAudio(Begun(file, 4), first_piece=codec.config.first_piece):
        new, read = encoder.push(piece).shape[1], read + len(piece)
        if frames and len(piece) == 640:
            assert new == 1
            # Little more than the frame and its look-ahead are in: resampling goes by 10 ms.
            more = read - 640 * (frames + 1) - codec.config.lookahead_samples
            assert 0 <= more < (160 if rate_hz == 44_100 else 1)
        frames += new
    assert frames > 60


def test_ctrl_c_loses_nothing_of_what_goes_to_a_file(raw, tmp_path) -> None:
    """The program at the head of the pipeline ends, and the others write what they have."""
    stream = vqasr("encode", "-", "-o", "-", "-n", 2, "--pcm-hz", 16_000, stdin=raw).stdout
    process = start("trim", "-", "-n", 1, "-o", tmp_path / "small.vqs")
    process.stdin.write(stream[: len(stream) // 2])
    wait_until_it_reads(process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    _, errors = process.communicate(stream[len(stream) // 2 :], timeout=60)
    assert process.returncode == 0, errors
    assert Stream.load(tmp_path / "small.vqs").frames == 75


def wait_until_it_reads(process: subprocess.Popen) -> None:
    """Wait until a process has taken all that was written to it."""
    waiting = array.array("i", [1])
    while waiting[0]:
        time.sleep(0.05)
        fcntl.ioctl(process.stdin, termios.FIONREAD, waiting)
    time.sleep(0.1)
