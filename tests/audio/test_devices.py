"""Microphone and loudspeaker: PortAudio with devices of ALSA that read and write files."""

import builtins
import os
import signal
import sys
import threading

import numpy as np
import pytest
import soundfile
from cli_helpers import vqasr

from vqasr import Stream, compress, decode
from vqasr.assets import CLIPS
from vqasr.audio.devices import Loudspeaker, Microphone
from vqasr.errors import AudioError

CLIP = CLIPS / "clip01_af_heart.flac"
# They take and give samples as fast as they can.
DEVICES = """
pcm.file_in { type file file "/dev/null" infile "%s/in.raw" format "raw" slave.pcm "null" }
pcm.file_out { type file file "%s/out.raw" format "raw" slave.pcm "null" }
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("devices")
    (folder / ".asoundrc").write_text(DEVICES % (folder, folder))
    speech, _ = soundfile.read(CLIP, dtype="float32")
    np.pad(speech, (0, 64_000)).tofile(folder / "in.raw")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        try:
            import sounddevice
        except Exception as error:  # PortAudio is missing, or ALSA
            pytest.skip(f"no PortAudio: {error}")
        names = [device["name"] for device in sounddevice.query_devices()]
        if not {"file_in", "file_out"} <= set(names):
            pytest.skip(f"PortAudio does not use ALSA: {names}")
        yield folder


def test_record(folder, codec) -> None:
    """Ctrl-C ends the recording; its beginning is the stream of the file."""
    timer = threading.Timer(3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    done = vqasr("record", "-o", folder / "talk.vqs", "-n", 2, "--device", "file_in")
    recorded = Stream.load(folder / "talk.vqs")
    whole = compress(CLIP, codec=codec, num_quantizers=2)
    assert recorded.header.chunk_s == 0.2
    assert recorded.frames > 200  # the 10 s that wait, at least
    frames = whole.frames - 8  # the last ones look ahead
    assert (recorded.codes[:, :frames] == whole.codes[:, :frames]).mean() > 0.99
    assert f"{folder}/talk.vqs: " in done.stderr
    assert "the machine was too slow" in done.stderr  # for a device without a clock


def test_play(folder, codec) -> None:
    stream = compress(CLIP, codec=codec, num_quantizers=2, chunk_frames=5).cut(0, 2)
    stream.save(folder / "played.vqs")
    vqasr("play", folder / "played.vqs", "--device", "file_out")
    played = np.fromfile(folder / "out.raw", np.float32)
    expected = decode(stream, codec=codec)
    np.testing.assert_allclose(played[: len(expected)], np.clip(expected, -1, 1), atol=1e-4)
    assert not played[len(expected) :].any()
    (folder / "cut.vqs").write_bytes(stream.to_bytes()[:-20])
    cut = vqasr("play", folder / "cut.vqs", "--device", "file_out", ok=False)
    assert "ends before its last chunk" in cut.stderr


def test_another_rate(folder, monkeypatch) -> None:
    """Where a device does not have 16 kHz, samples are converted."""
    import sounddevice

    def refuse(**settings: object) -> None:
        if settings["samplerate"] == 16_000:
            raise sounddevice.PortAudioError("invalid sample rate")

    monkeypatch.setattr(sounddevice, "check_output_settings", refuse)
    rate_hz = sounddevice.query_devices("file_out")["default_samplerate"]
    assert rate_hz != 16_000
    tone = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000).astype(np.float32) / 2
    with Loudspeaker("file_out") as loudspeaker:
        for piece in np.split(tone, 4):
            loudspeaker.write(piece)
    played = np.fromfile(folder / "out.raw", np.float32)[: round(rate_hz)]
    expected = np.sin(2 * np.pi * 440 * np.arange(len(played)) / rate_hz) / 2
    inside = slice(1000, -1000)
    assert np.abs(played[inside] - expected[inside]).max() < 3e-3


def test_no_such_device(folder) -> None:
    for kind in (Microphone, Loudspeaker):
        with pytest.raises(AudioError, match=r"no device 'nothing'.*python -m sounddevice"):
            kind("nothing")


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (ImportError("no module"), r"vqasr\[live\]"),
        (OSError("PortAudio library not found"), "apt install"),
        (RuntimeError("Unanticipated host error"), "PortAudio does not start"),
    ],
)
def test_no_portaudio(problem, message, monkeypatch) -> None:
    imported = builtins.__import__

    def fail(name: str, *arguments: object) -> object:
        if name == "sounddevice":
            raise problem
        return imported(name, *arguments)

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(builtins, "__import__", fail)
    with pytest.raises(AudioError, match=message):
        Microphone()
