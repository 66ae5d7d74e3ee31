"""Microphone and loudspeaker: PortAudio with devices of ALSA that read and write files."""

import builtins
import os
import signal
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import soundfile
from cli_helpers import vqasr

from vqasr import Stream, compress, decode
from vqasr.assets import CLIPS
from vqasr.audio import devices
from vqasr.audio.devices import CUSHION_S, Loudspeaker, Microphone
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


def test_record(folder, codec, monkeypatch) -> None:
    """Ctrl-C ends the recording; its beginning is the stream of the file."""
    blocks = Microphone._blocks

    def press(self: Microphone) -> Iterator[np.ndarray]:
        # Here, and not by a clock: until recording has begun, xdist's workers ignore the signal.
        for number, block in enumerate(blocks(self)):
            if number == 1200:  # 12 s
                os.kill(os.getpid(), signal.SIGINT)
            yield block

    monkeypatch.setattr(Microphone, "_blocks", press)
    done = vqasr("record", "-o", folder / "talk.vqs", "-n", 2, "--device", "file_in")
    recorded = Stream.load(folder / "talk.vqs")
    whole = compress(CLIP, codec=codec, num_quantizers=2)
    assert recorded.header.chunk_s == 0.2
    assert recorded.frames > 200  # the 10 s that wait, at least
    frames = whole.frames - 8  # the last ones look ahead
    assert (recorded.codes[:, :frames] == whole.codes[:, :frames]).mean() > 0.99
    assert f"{folder}/talk.vqs: " in done.stderr
    assert "the machine was too slow" in done.stderr  # for a device without a clock


def test_play(folder, codec, monkeypatch) -> None:
    stream = compress(CLIP, codec=codec, num_quantizers=2, chunk_frames=5).cut(0, 2)
    stream.save(folder / "played.vqs")
    vqasr("play", folder / "played.vqs", "--device", "file_out")
    played = np.fromfile(folder / "out.raw", np.float32)
    expected = decode(stream, codec=codec)
    silence = round(CUSHION_S * 16_000)
    assert not played[:silence].any()
    sound = played[silence:]
    np.testing.assert_allclose(sound[: len(expected)], np.clip(expected, -1, 1), atol=1e-4)
    assert not sound[len(expected) :].any()
    (folder / "cut.vqs").write_bytes(stream.to_bytes()[:-20])
    cut = vqasr("play", folder / "cut.vqs", "--device", "file_out", ok=False)
    assert "ends before its last chunk" in cut.stderr
    assert "cut.vqs" in cut.stderr
    sound = np.fromfile(folder / "out.raw", np.float32)[silence:]
    np.testing.assert_allclose(sound[:20_000], np.clip(expected[:20_000], -1, 1), atol=1e-4)
    refused = vqasr("play", folder / "cut.vqs", "--vocoder", "griffin-lim", ok=False)
    assert "cannot decode while codes come in" in refused.stderr

    def unplugged(*_: object) -> None:
        raise AudioError("the device is gone")

    monkeypatch.setattr(Loudspeaker, "write", unplugged)
    failed = vqasr("play", folder / "played.vqs", "--device", "file_out", ok=False)
    assert "the device is gone" in failed.stderr
    assert "played.vqs" not in failed.stderr  # which is in order


def test_an_older_file_stays_if_the_device_cannot_be_used(folder, tmp_path) -> None:
    (tmp_path / "old.vqs").write_bytes(b"older")
    failed = vqasr("record", "-o", tmp_path / "old.vqs", "--device", "nothing", ok=False)
    assert "python -m sounddevice" in failed.stderr
    assert (tmp_path / "old.vqs").read_bytes() == b"older"


@pytest.mark.parametrize("rate_hz", [16_000, 22_050, 44_100])
def test_pieces_are_40_ms(rate_hz, folder, codec, monkeypatch) -> None:
    """Whatever the rate of the device; the first one is as long as was asked."""
    monkeypatch.setattr(devices, "_settings", lambda *_: (rate_hz, 1))
    with Microphone("file_in", first_piece=40) as microphone:
        pieces = [len(piece) for piece, _ in zip(microphone, range(20), strict=False)]
    assert 40 <= pieces[0] < 40 + 320
    assert set(pieces[1:]) == {640}


def test_a_gap(folder, monkeypatch) -> None:
    """After a gap there is a cushion again, and it is counted."""
    with Loudspeaker("file_out", cushion_s=0.1) as loudspeaker:
        write, ran_out = loudspeaker._stream.write, iter([True, False, True, False])
        sizes: list[int] = []

        def note(wave: np.ndarray) -> bool:
            sizes.append(len(wave))
            write(wave)
            return next(ran_out)

        monkeypatch.setattr(loudspeaker._stream, "write", note)
        for _ in range(4):
            loudspeaker.write(np.zeros(640, np.float32))
    assert sizes == [640 + 1600, 640, 640, 640 + 1600]
    assert loudspeaker.gaps == 1


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
    silence = round(CUSHION_S * rate_hz)
    played = np.fromfile(folder / "out.raw", np.float32)[silence : silence + round(rate_hz)]
    expected = np.sin(2 * np.pi * 440 * np.arange(len(played)) / rate_hz) / 2
    inside = slice(1000, -1000)
    assert np.abs(played[inside] - expected[inside]).max() < 3e-3


def test_no_such_device(folder) -> None:
    for kind in (Microphone, Loudspeaker):
        with pytest.raises(
            AudioError, match=r"device 'nothing' cannot be taken.*python -m sounddevice"
        ):
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
