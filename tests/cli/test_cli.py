"""The command line end to end, as a user runs it."""

import json
import os
import pty
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from cli_helpers import vqasr

from vqasr import Transcriber, compress, transcribe
from vqasr.assets import CLIPS
from vqasr.cli.inputs import find_inputs, output_paths
from vqasr.errors import AudioError, AudioWarning, CorruptStreamError, VqasrError
from vqasr.stream.stream import Stream

CLIP = CLIPS / "clip01_af_heart.flac"
CTC = ("--asr", "ctc-small")


@pytest.fixture(scope="module")
def stream(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("streams") / "clip.vqs"
    vqasr("encode", CLIP, "-o", path, "--num-quantizers", 4)
    return path


@pytest.fixture(scope="module")
def long(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("long") / "long.vqs"
    vqasr("encode", CLIPS / "long01_af_heart.ogg", "-o", path, "-n", 4)
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
    assert facts["coded_bps"] == pytest.approx(8 * stream.stat().st_size / seconds, abs=0.01)
    assert facts["nominal_bps"] == pytest.approx(facts["frames"] * 40 / seconds, abs=0.01)
    assert (facts["format"], facts["single_chunk"]) == (1, True)
    assert facts["order0_bps"] < facts["nominal_bps"]
    assert facts["prior_bps"] < facts["coded_bps"] < facts["nominal_bps"]
    assert facts["coded_bps"] < 1.03 * facts["prior_bps"] + 8 * (16 + 10) / seconds
    assert list(facts["container_bps"]) == ["1 s", "5 s", "60 s"]
    assert facts["codec"] == facts["codec"].lower()
    assert len(facts["prior"]) == 4


def test_info_of_a_folder(stream, tmp_path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.vqs").write_bytes(stream.read_bytes())
    (tmp_path / "c.vqs").write_bytes(stream.read_bytes()[:-3])
    done = vqasr("info", tmp_path, ok=False)
    assert f"{tmp_path}/c.vqs: The stream" in done.stderr
    assert "1 of 3 streams" in done.stderr
    head, a, b, total = done.stdout.splitlines()
    assert head.split()[:3] == ["seconds", "bytes", "bit/s"]
    assert a.split()[:-1] == b.split()[:-1]
    seconds, size, bps = (float(part) for part in total.split()[:3])
    assert size == 2 * stream.stat().st_size
    assert bps == pytest.approx(8 * size / seconds, rel=0.01)
    lines = vqasr("info", tmp_path, "--json", ok=False).stdout.splitlines()
    assert [json.loads(line)["file"] for line in lines] == [f"{tmp_path}/{n}.vqs" for n in "ab"]


def test_decode(stream, tmp_path) -> None:
    vqasr("decode", stream, "-o", tmp_path / "clip.wav")
    info = soundfile.info(tmp_path / "clip.wav")
    assert (info.samplerate, info.channels) == (16_000, 1)
    assert info.frames == soundfile.info(CLIP).frames


def test_stream_and_audio_have_the_same_text(stream) -> None:
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
    run = vqasr("encode", good, "-o", tmp_path / "out", "--skip-existing")
    assert "skipped: 1 of 1 outputs exist" in run.stderr
    assert (tmp_path / "out" / "good.vqs").stat().st_mtime_ns == before


def test_encode_refuses_two_inputs_with_one_target(tmp_path) -> None:
    run = vqasr("encode", "a/x.wav", "b/x.wav", "-o", tmp_path / "out", ok=False)
    assert "would both be written to" in run.stderr


def test_encode_refuses_a_stream(stream, tmp_path) -> None:
    run = vqasr("encode", stream, "-o", tmp_path / "out.vqs", ok=False)
    assert f"{stream} is a stream already" in run.stderr
    assert not (tmp_path / "out.vqs").exists()


def test_outputs_keep_their_places_below_a_folder(tmp_path, monkeypatch) -> None:
    root, out = tmp_path / "archive", tmp_path / "out"
    names = ("day 1/rec.wav", "day 2/rec.wav", "day 2/rec.flac", "v1.2.wav")
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    other = tmp_path / "other.wav"
    paths = find_inputs([str(root), str(other)])
    placed = output_paths(paths, out, ".vqs", [str(root), str(other)])
    assert {p.name: o.relative_to(out) for p, o in placed.items() if p == other} == {
        "other.wav": Path("other.vqs")
    }
    expected = ("day 1/rec.vqs", "day 2/rec.wav.vqs", "day 2/rec.flac.vqs", "v1.2.vqs")
    assert {placed[root / name] for name in names} == {out / name for name in expected}
    monkeypatch.chdir(root)
    for sources in (["day 2", "."], [str(root), "day 1"]):  # the outermost folder counts
        found = output_paths(find_inputs(sources), Path("out"), ".vqs", sources)
        assert set(found.values()) == {Path("out") / name for name in expected}
    monkeypatch.chdir(root / "day 1")
    sources = [".", "../v1.2.wav"]  # nothing is written outside of the folder
    found = output_paths(find_inputs(sources), Path("out"), ".vqs", sources)
    assert {str(path) for path in found.values()} == {"out/rec.vqs", "out/v1.2.vqs"}


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
        read = Stream.load(bytes(data))
        data = replace(read, header=replace(read.header, fingerprint=b"\x01" * 3)).to_bytes()
    path = tmp_path / "damaged.vqs"
    path.write_bytes(data)
    target = tmp_path / "kept.wav"
    target.write_bytes(b"precious")
    assert "error:" in vqasr("decode", path, "-o", target, ok=False).stderr
    assert target.read_bytes() == b"precious"
    assert "error:" in vqasr("transcribe", path, ok=False).stderr


def test_what_precedes_a_cut_can_be_used(long, tmp_path) -> None:
    cut = tmp_path / "cut.vqs"
    cut.write_bytes(long.read_bytes()[: long.stat().st_size // 3])
    assert "error:" in vqasr("transcribe", cut, ok=False).stderr
    assert "grandfather" in vqasr("transcribe", cut, "--partial").stdout
    facts = json.loads(vqasr("info", cut, "--partial", "--json").stdout)
    assert facts["frames"] % 250 == 0
    assert facts["frames"] > 0
    assert facts["lost_frames"] == 0


def test_chunks_after_damage_can_be_used(tmp_path) -> None:
    long, damaged = tmp_path / "long.vqs", tmp_path / "damaged.vqs"
    vqasr("encode", CLIPS / "long01_af_heart.ogg", "-o", long, "-n", 4, "--chunk-s", 5)
    data = bytearray(long.read_bytes())
    data[900] ^= 1
    damaged.write_bytes(data)
    assert "error:" in vqasr("transcribe", damaged, ok=False).stderr
    facts = json.loads(vqasr("info", damaged, "--partial", "--json").stdout)
    whole = json.loads(vqasr("info", long, "--json").stdout)
    assert facts["lost_frames"] == 125
    assert facts["frames"] == whole["frames"]
    assert facts["seconds"] == whole["seconds"]
    for options, expected in ((["--vocoder", "griffin-lim"], 5), ([], 0)):
        part = ["--partial", "--end-s", 12, *options]
        vqasr("decode", damaged, "-o", tmp_path / "d.wav", *part)
        audio, _ = soundfile.read(tmp_path / "d.wav")
        assert len(audio) == 12 * 16_000
        # The vocoder guesses what is lost.
        assert (np.abs(audio).reshape(12, -1).max(axis=1) == 0).sum() == expected


def test_a_part_by_time(long, tmp_path) -> None:
    run = vqasr("transcribe", long, "--start-s", 10, "--end-s", 20, "--json", *CTC)
    part = json.loads(run.stdout)[0]
    assert part["seconds"] == 10
    assert part["coded_bps"] == 8 * part["bytes"] / 10
    stream = Stream.load(long, start_s=10, end_s=20)
    assert part["bytes"] == len(stream.to_bytes())
    with pytest.raises(VqasrError, match="bps is for audio"):
        transcribe(stream, asr="ctc-small", bps=300)
    data = bytearray(long.read_bytes())
    data[len(data) // 4] ^= 255
    (tmp_path / "damaged.vqs").write_bytes(data)
    options = ("--start-s", 8, "--end-s", 24, "--partial", "--json", *CTC)
    lossy = json.loads(vqasr("transcribe", tmp_path / "damaged.vqs", *options).stdout)[0]
    assert (lossy["seconds"], lossy["bytes"], lossy["coded_bps"]) == (16, 0, None)
    assert lossy["text"]
    (note,) = lossy["warnings"]
    assert note.startswith(f"{tmp_path}/damaged.vqs: ")
    assert "of 400 frames are lost" in note
    with pytest.raises(CorruptStreamError, match="--partial uses all intact chunks") as error:
        Stream.load(bytes(data))
    assert error.value.stream.lost_frames
    assert transcribe(error.value.stream.cut(8, 24), asr="ctc-small").text
    whole = json.loads(vqasr("transcribe", long, "--json", *CTC).stdout)[0]
    assert 0 < len(part["text"]) < 0.6 * len(whole["text"])


def test_trim_and_cat(stream, tmp_path) -> None:
    two, direct, joined = tmp_path / "2.vqs", tmp_path / "direct.vqs", tmp_path / "joined.vqs"
    vqasr("trim", stream, "-n", 2, "-o", two)
    vqasr("encode", CLIP, "-o", direct, "-n", 2)
    assert two.read_bytes() == direct.read_bytes()
    vqasr("cat", two, direct, "-o", joined)
    one, both = (json.loads(vqasr("info", p, "--json").stdout) for p in (two, joined))
    assert both["frames"] == 2 * one["frames"]
    assert both["num_quantizers"] == 2
    assert "codebooks" in vqasr("trim", stream, "-n", 5, "-o", two, ok=False).stderr
    assert "vqasr trim" in vqasr("cat", two, stream, "-o", joined, ok=False).stderr


def test_text_goes_to_stdout_beside_a_terminal() -> None:
    """rich redirects stdout to the terminal of its progress bar unless told not to."""
    terminal, ours = pty.openpty()
    with open(ours, "w") as stderr:
        assert stderr.isatty()
        run = vqasr("transcribe", CLIP, *CTC, stderr=stderr)
    shown = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert len(run.stdout.split()) > 5
    assert run.stdout.strip() not in shown
    assert shown  # the progress bar


def test_encode_never_overwrites_the_recording(tmp_path) -> None:
    recording = tmp_path / "talk.flac"
    recording.write_bytes(CLIP.read_bytes())
    run = vqasr("encode", recording, "-o", recording, ok=False)
    assert "this command writes .vqs" in run.stderr
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
        ("encode", CLIP, "-o", tmp_path / "a.vqs", "--chunk-s", 0.3),
        ("encode", CLIP, "-o", tmp_path / "a.vqs", "--prior", tmp_path),
        ("decode", stream, "-o", tmp_path / "a.wav", "--start-s", 3, "--end-s", 2),
        ("cat", stream, tmp_path / "missing.vqs", "-o", tmp_path / "b.vqs"),
    ):
        run = vqasr(*arguments, ok=False)
        assert run.stderr.count("error:") == 1, run.stderr


def test_errors_name_the_stream(stream, tmp_path, monkeypatch) -> None:
    broken = tmp_path / "broken.vqs"
    broken.write_bytes(Path(stream).read_bytes()[:-3])
    wav = tmp_path / "a.wav"
    decode = ("decode", "-o", wav)
    for command in (
        ("info",),
        decode,
        ("trim", "-n", 1, "-o", tmp_path / "a.vqs"),
        ("transcribe",),
    ):
        error = vqasr(*command, broken, ok=False).stderr
        assert error.count(f"error: {broken}: The stream") == 1, command
    # A path that is also part of the message is printed; it is not if the error is of other cause.
    (tmp_path / "s").write_bytes(broken.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert "error: s: The stream" in vqasr("info", "s", ok=False).stderr
    wrong_codec = vqasr(*decode, stream, "--codec", tmp_path / "none", ok=False).stderr
    assert str(stream) not in wrong_codec
    for part in (("--start-s", 500), ("--start-s", 2, "--end-s", 2), ("--end-s", 0)):
        assert "there is nothing from --start-s" in vqasr(*decode, stream, *part, ok=False).stderr
    assert not wav.exists()


def test_demo_on_ones_own_clip() -> None:
    clip = CLIPS / "clip02_am_michael.flac"  # whose uncompressed audio is read without errors
    lines = json.loads(vqasr("demo", clip, "--json").stdout)
    assert [line["system"] for line in lines] == [
        "uncompressed",
        "1 codebook",
        "2 codebooks",
        "4 codebooks",
        "8 codebooks",
        "2, ctc-small",
        "4, ctc-small",
    ]
    assert lines[4]["wer"] < 0.06
    assert lines[6]["wer"] < 0.75
    assert lines[4]["bytes"] < lines[0]["bytes"] / 50
    seconds = soundfile.info(clip).frames / 16_000
    assert lines[4]["coded_bps"] == pytest.approx(8 * lines[4]["bytes"] / seconds)
    rates = [line["coded_bps"] for line in lines[1:5]]
    assert rates == sorted(rates)


def test_a_part_is_cut_out(stream, tmp_path) -> None:
    part, whole = tmp_path / "part.vqs", Stream.load(stream)
    vqasr("trim", stream, "-o", part, "--start-s", "1", "--end-s", "2.5", "-n", "2")
    assert Stream.load(part).to_bytes() == whole.trim(2).cut(1.0, 2.5).to_bytes()
    long = tmp_path / "long.vqs"
    vqasr("cat", *[stream] * 8, "-o", long)
    for start_s, end_s in ((10.0, 22.0), (2.0, 4.0)):
        vqasr("trim", long, "-o", part, "--start-s", start_s, "--end-s", end_s)
        assert part.read_bytes() == Stream.load(long).cut(start_s, end_s).to_bytes()
    run = vqasr("trim", long, "-o", part, "--start-s", 600, ok=False)
    assert "there is nothing from --start-s 600" in run.stderr
    data = long.read_bytes()
    long.write_bytes(data[: len(data) // 2])
    run = vqasr("trim", long, "-o", part, ok=False)
    assert "--partial" in run.stderr
    note = "the end of the stream is missing or damaged"
    assert note in vqasr("trim", long, "-o", part, "--partial").stderr
    assert note in vqasr("decode", long, "-o", tmp_path / "a.wav", "--partial").stderr
    damaged = data[:-20] + bytes([data[-20] ^ 1]) + data[-19:]
    assert Stream.load(damaged, partial=True).truncated
    left = Stream.load(long, partial=True)
    assert left.truncated
    assert not whole.truncated
    assert Stream.join([whole, left]).truncated
    assert Stream.load(part).frames == left.frames > 0
    facts = json.loads(vqasr("info", long, "--partial", "--json").stdout)
    assert (facts["truncated"], facts["lost_frames"]) == (True, 0)


def test_notes_in_python(stream) -> None:
    transcriber = Transcriber("ctc-small")
    data = compress(CLIP, num_quantizers=2, chunk_frames=25).to_bytes()
    with pytest.warns(AudioWarning, match="end of the stream is missing"):
        transcriber(data[:-30], partial=True)
    with pytest.warns(AudioWarning, match="nothing from 9 s on"):
        assert transcriber(stream, start_s=9.0).text == ""
    samples, rate_hz = soundfile.read(CLIP)
    assert rate_hz == 16_000
    text = transcriber(samples, num_quantizers=4).text
    assert transcriber(samples, num_quantizers=4, sampling_rate=16_000).text == text
    with pytest.raises(AudioError, match="a file states its own"):
        transcriber(CLIP, sampling_rate=16_000)


def test_decode_a_folder(stream, tmp_path) -> None:
    place = tmp_path / "in" / "day"
    place.mkdir(parents=True)
    (place / "a.vqs").write_bytes(stream.read_bytes())
    (tmp_path / "in" / "bad.vqs").write_bytes(b"VQ\1 not a stream")
    out = tmp_path / "out"
    run = vqasr("decode", tmp_path / "in", "-o", out, ok=False)
    assert "bad.vqs: " in run.stderr
    assert "1 of 2 streams" in run.stderr
    vqasr("decode", stream, "-o", tmp_path / "a.flac")
    wav, _ = soundfile.read(out / "day" / "a.wav")
    flac, rate_hz = soundfile.read(tmp_path / "a.flac")
    assert soundfile.info(tmp_path / "a.flac").format == "FLAC"
    assert rate_hz == 16_000
    np.testing.assert_allclose(flac, wav, atol=1 / 32_768)  # libsndfile rounds them otherwise
    assert "writes .wav" in vqasr("decode", stream, "-o", tmp_path / "a.mp3", ok=False).stderr
    run = vqasr("decode", stream, tmp_path / "in", "-o", tmp_path / "x.wav", ok=False)
    assert "one file for 3 inputs" in run.stderr
