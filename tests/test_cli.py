"""The command line end to end, as a user runs it."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from vqasr.assets import CLIPS

CLIP = CLIPS / "clip01_af_heart.flac"


def vqasr(*arguments: object, ok: bool = True) -> subprocess.CompletedProcess:
    run = subprocess.run(
        [sys.executable, "-m", "vqasr", *map(str, arguments)], capture_output=True, text=True
    )
    assert (run.returncode == 0) == ok, run.stdout + run.stderr
    if not ok:
        assert "Traceback" not in run.stderr, run.stderr
    return run


@pytest.fixture(scope="module")
def stream(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("streams") / "clip.vqs"
    vqasr("encode", CLIP, "-o", path, "--num-quantizers", 4)
    return path


def test_help_teaches() -> None:
    commands = ("encode", "decode", "info", "transcribe", "evaluate", "train", "demo")
    listing = vqasr("--help").stdout
    assert all(command in listing for command in commands)
    for command in commands:
        assert f"vqasr {command}" in vqasr(command, "--help").stdout


def test_info(stream) -> None:
    facts = json.loads(vqasr("info", stream, "--json").stdout)
    seconds = soundfile.info(CLIP).frames / 16_000
    assert facts["num_quantizers"] == 4
    assert facts["seconds"] == pytest.approx(seconds)
    assert facts["frames"] == int(np.ceil(seconds * 25))
    assert facts["bytes"] == stream.stat().st_size
    assert facts["coded_bps"] == pytest.approx(8 * stream.stat().st_size / seconds)
    assert facts["nominal_bps"] == pytest.approx(facts["frames"] * 40 / seconds)


def test_decode(stream, tmp_path) -> None:
    vqasr("decode", stream, "-o", tmp_path / "clip.wav")
    info = soundfile.info(tmp_path / "clip.wav")
    assert (info.samplerate, info.channels) == (16_000, 1)
    assert info.frames == soundfile.info(CLIP).frames


def test_transcribe_hears_the_same_from_stream_and_audio(stream) -> None:
    run = vqasr("transcribe", stream, CLIP, "-n", 4, "--json")
    from_stream, from_audio = json.loads(run.stdout)
    assert from_stream["text"] == from_audio["text"] != ""
    assert from_stream["bytes"] == from_audio["bytes"] == stream.stat().st_size


def test_transcribe_prints_plain_text() -> None:
    run = vqasr("transcribe", CLIP, "--uncompressed")
    assert "warm bread before breakfast" in run.stdout
    assert len(run.stdout.strip().splitlines()) == 1


def test_encode_many_goes_on_after_a_bad_file(tmp_path) -> None:
    good = tmp_path / "in" / "good.wav"
    good.parent.mkdir()
    soundfile.write(good, np.random.default_rng(0).normal(0, 0.1, (44_100, 2)), 44_100)
    bad = tmp_path / "in" / "bad.wav"
    bad.write_text("no sound")
    run = vqasr("encode", bad, good, "-o", tmp_path / "out", ok=False)
    assert "bad.wav" in run.stderr
    assert "1 of 2" in run.stderr
    assert (tmp_path / "out" / "good.vqs").stat().st_size > 24
    before = (tmp_path / "out" / "good.vqs").stat().st_mtime_ns
    vqasr("encode", good, "-o", tmp_path / "out", "--skip-existing")
    assert (tmp_path / "out" / "good.vqs").stat().st_mtime_ns == before


def test_encode_refuses_two_inputs_with_one_target(tmp_path) -> None:
    run = vqasr("encode", "a/x.wav", "b/x.wav", "-o", tmp_path / "out", ok=False)
    assert "overwrite each other" in run.stderr


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "text", "other codec"])
def test_damaged_streams(stream, tmp_path, damage) -> None:
    data = bytearray(stream.read_bytes())
    if damage == "truncated":
        data = data[:-20]
    elif damage == "flipped":
        data[200] ^= 4
    elif damage == "empty":
        data = bytearray()
    elif damage == "text":
        data = bytearray(b"hello, this is no stream")
    else:
        from vqasr.stream import stream_from_bytes, stream_to_bytes

        read = stream_from_bytes(bytes(data))
        data = stream_to_bytes(
            read.codes,
            samples=read.samples,
            fingerprint=b"\x01" * 6,
            bits_per_code=10,
            hop_length=640,
        )
    path = tmp_path / "damaged.vqs"
    path.write_bytes(data)
    target = tmp_path / "kept.wav"
    target.write_bytes(b"precious")
    assert "error:" in vqasr("decode", path, "-o", target, ok=False).stderr
    assert target.read_bytes() == b"precious"
    assert "error:" in vqasr("transcribe", path, ok=False).stderr


def test_what_precedes_a_cut_can_be_used(tmp_path) -> None:
    long, cut = tmp_path / "long.vqs", tmp_path / "cut.vqs"
    vqasr("encode", CLIPS / "long01_af_heart.ogg", "-o", long, "-n", 4)
    cut.write_bytes(long.read_bytes()[: long.stat().st_size // 3])
    assert "error:" in vqasr("transcribe", cut, ok=False).stderr
    assert "grandfather" in vqasr("transcribe", cut, "--partial").stdout
    facts = json.loads(vqasr("info", cut, "--partial", "--json").stdout)
    assert facts["frames"] == 500


def test_text_goes_to_stdout_beside_a_terminal(tmp_path) -> None:
    """rich redirects stdout to the terminal of its progress bar unless told not to."""
    terminal, ours = pty.openpty()
    run = subprocess.run(
        [sys.executable, "-m", "vqasr", "transcribe", str(CLIP), "--uncompressed"],
        stdout=subprocess.PIPE,
        stderr=ours,
        text=True,
    )
    os.close(terminal), os.close(ours)
    assert "warm bread" in run.stdout


def test_encode_never_overwrites_the_recording(tmp_path) -> None:
    recording = tmp_path / "talk.flac"
    recording.write_bytes(CLIP.read_bytes())
    run = vqasr("encode", recording, "-o", recording, ok=False)
    assert "recording itself" in run.stderr
    assert recording.read_bytes() == CLIP.read_bytes()
    assert "one file" in vqasr("encode", CLIP, recording, "-o", tmp_path / "x.vqs", ok=False).stderr


def test_wrong_arguments_are_one_line(stream, tmp_path) -> None:
    for arguments in (
        ("info", tmp_path / "missing.vqs"),
        ("encode", CLIP, "-o", tmp_path / "a.vqs", "-n", 9),
        ("transcribe", stream, "-n", 5),
        ("transcribe", stream, "--uncompressed"),
        ("transcribe", CLIP, "--asr", "nobody"),
        ("encode", CLIP, "-o", tmp_path / "a.vqs", "--codec", "nothing-here"),
        ("train", tmp_path / "missing.toml"),
    ):
        run = vqasr(*arguments, ok=False)
        assert run.stderr.count("error:") == 1, run.stderr


def test_demo_on_ones_own_clip() -> None:
    lines = json.loads(vqasr("demo", CLIP, "--json").stdout)
    assert [line["system"] for line in lines] == [
        "uncompressed",
        "1 codebook",
        "2 codebooks",
        "4 codebooks",
        "8 codebooks",
    ]
    assert lines[-1]["wer"] < 0.2
    rates = [line["coded_bps"] for line in lines[1:]]
    assert rates == sorted(rates)
