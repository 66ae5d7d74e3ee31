"""Inputs of every kind are read, and no output destroys a file."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile
from cli_helpers import run as any_result
from cli_helpers import vqasr

from vqasr import Stream
from vqasr.assets import CLIPS
from vqasr.audio.files import read_audio
from vqasr.cli.inputs import expand_lists, find_inputs
from vqasr.errors import VqasrError

CLIP = CLIPS / "clip01_af_heart.flac"


@pytest.fixture
def talk(tmp_path) -> Path:
    """A second of speech, as WAV."""
    path = tmp_path / "talk.wav"
    soundfile.write(path, read_audio(CLIP)[8000:24000], 16_000)
    return path


@pytest.fixture(scope="session")
def one_stream(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("one") / "one.vqs"
    wav = path.with_suffix(".wav")
    soundfile.write(wav, read_audio(CLIP)[8000:24000], 16_000)
    vqasr("encode", wav, "-o", path, "-n", 4)
    return path.read_bytes()


@pytest.fixture
def stream(tmp_path, one_stream) -> Path:
    path = tmp_path / "talk.vqs"
    path.write_bytes(one_stream)
    return path


# Command, its output and a part of the message; every file stays as it was.
DESTRUCTIVE = {
    "decode over itself": ("decode talk.vqs -o talk.vqs", "writes .wav"),
    "decode to MP3": ("decode talk.vqs -o q.mp3", "writes .wav"),
    "decode to a stream": ("decode talk.vqs -o other.vqs", "writes .wav"),
    "encode over a recording": ("encode talk.wav -o other.wav", "writes .vqs"),
    "encode over itself": ("encode talk.wav -o talk.wav", "writes .vqs"),
    "encode over a stream that is audio": ("encode odd.vqs -o odd.vqs", "--force"),
    "encode through a link": ("encode odd.vqs -o link.vqs", "--force"),
    "encode through a hard link": ("encode odd.vqs -o hard.vqs", "--force"),
    "encode into the folder of the input": ("encode odd.vqs -o .", "--force"),
    "encode two into one": ("encode talk.wav other.wav -o x.vqs", "one file for 2"),
    "trim over itself": ("trim talk.vqs -n 1 -o talk.vqs", "--force"),
    "trim with another spelling": ("trim talk.vqs -n 1 -o ../work/./talk.vqs", "--force"),
    "trim over a recording": ("trim talk.vqs -n 1 -o talk.wav", "writes .vqs"),
    "cat over a part": ("cat talk.vqs talk.vqs -o talk.vqs", "--force"),
    "cat over a recording": ("cat talk.vqs -o other.wav", "writes .vqs"),
    "transcribe over a list": ("transcribe @talk.txt -o .", "--force"),
    "output is a folder": ("trim talk.vqs -n 1 -o folder", "folder"),
    "folder is a file": ("encode talk.wav other.wav -o plain", "is a file"),
}


@pytest.mark.parametrize("case", DESTRUCTIVE)
def test_nothing_is_destroyed(case, talk, stream, tmp_path, monkeypatch) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    for path in (talk, stream):
        shutil.copy(path, work)
    shutil.copy(talk, work / "other.wav")
    shutil.copy(talk, work / "odd.vqs")
    (work / "link.vqs").symlink_to("odd.vqs")
    os.link("odd.vqs", "hard.vqs")
    (work / "talk.txt").write_text("talk.wav\n")
    (work / "plain").write_text("text")
    (work / "folder").mkdir()
    before = {path: path.read_bytes() for path in work.iterdir() if path.is_file()}
    command, message = DESTRUCTIVE[case]
    run = vqasr(*command.split(), ok=False)
    assert message in run.stderr
    assert {path: path.read_bytes() for path in work.iterdir() if path.is_file()} == before


def test_force_replaces_an_input(stream) -> None:
    before = Stream.load(stream)
    vqasr("trim", stream, "-n", 2, "-o", stream, "--force")
    assert (Stream.load(stream).codes == before.codes[:2]).all()


def test_missing_folders_are_made(talk, stream, tmp_path) -> None:
    deep = tmp_path / "a" / "b"
    vqasr("encode", talk, "-o", deep / "1" / "x.vqs", "-n", 1)
    vqasr("encode", talk, "-o", deep / "2", "-n", 1)
    vqasr("trim", stream, "-n", 1, "-o", deep / "3" / "x.vqs")
    vqasr("cat", stream, stream, "-o", deep / "4" / "x.vqs")
    vqasr("decode", stream, "-o", deep / "5" / "x.wav")
    vqasr("transcribe", stream, "-o", deep / "6", "--asr", "ctc-small")
    assert sorted(p.name for p in deep.rglob("*.*")) == [
        "talk.txt", "talk.vqs", "x.vqs", "x.vqs", "x.vqs", "x.wav"
    ]  # fmt: skip


def test_standard_input_and_output(talk, stream, tmp_path) -> None:
    data = stream.read_bytes()
    live = Stream.load(vqasr("encode", "-", "-o", "-", "-n", 4, stdin=talk.read_bytes()).stdout)
    assert (live.codes == Stream.load(data).codes).all()
    assert live.samples == Stream.load(data).samples
    assert json.loads(vqasr("info", "-", "--json", stdin=data).stdout)["bytes"] == len(data)
    trimmed = vqasr("trim", "-", "-n", 1, "-o", "-", stdin=data).stdout
    assert Stream.load(trimmed).header.num_quantizers == 1
    joined = vqasr("cat", "-", stream, "-o", "-", stdin=data).stdout
    assert Stream.load(joined).frames == 2 * Stream.load(stream).frames
    wav = vqasr("decode", "-", "-o", "-", stdin=data).stdout
    assert len(read_audio(wav)) == 16_000
    plain = vqasr("transcribe", stream, "--asr", "ctc-small").stdout
    assert vqasr("transcribe", "-", "--asr", "ctc-small", stdin=data).stdout == plain
    for command in ("info -", "trim - -n 1 -o -", "encode - -o -", "cat - - -o -", "decode - -o -"):
        assert "standard input is empty" in vqasr(*command.split(), ok=False).stderr
    assert "standard input" in vqasr("info", "-", stdin=b"RIFF....", ok=False).stderr


def test_named_pipes(talk, stream, tmp_path) -> None:
    for source, command in (
        (talk, ["encode", "PIPE", "-o", tmp_path / "piped.vqs", "-n", 4]),
        (stream, ["info", "PIPE"]),
        (stream, ["decode", "PIPE", "-o", tmp_path / "piped.wav"]),
        (stream, ["transcribe", "PIPE", "--asr", "ctc-small"]),
        (talk, ["transcribe", "PIPE", "--asr", "ctc-small"]),
    ):
        pipe = tmp_path / "pipe"
        pipe.unlink(missing_ok=True)
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_bytes, args=(source.read_bytes(),))
        writer.start()
        vqasr(*(pipe if part == "PIPE" else part for part in command))
        writer.join()
    assert (tmp_path / "piped.vqs").read_bytes() == stream.read_bytes()


def test_process_substitution_and_dev_stdin(stream, tmp_path) -> None:
    program = f"{sys.executable} -m vqasr"
    command = (
        f"cat {stream} | {program} trim /dev/stdin -n 2 -o /dev/stdout | {program} info - --json"
        f" && {program} cat <(cat {stream}) <(cat {stream}) -o {tmp_path}/two.vqs"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["num_quantizers"] == 2
    assert Stream.load(tmp_path / "two.vqs").frames == 50


def test_folders_patterns_and_lists_for_all(talk, stream, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(talk, tmp_path / "b.wav")
    vqasr("encode", tmp_path, "-o", "all", "-n", 1)  # the stream in the folder is no audio
    assert sorted(p.name for p in Path("all").iterdir()) == ["b.vqs", "talk.vqs"]
    vqasr("encode", "*.wav", "-o", "pattern", "-n", 1)
    for name in ("b.vqs", "talk.vqs"):
        assert Path("all", name).read_bytes() == Path("pattern", name).read_bytes()
    vqasr("cat", "all", "-o", "joined.vqs")
    vqasr("cat", "all/*.vqs", "all/b.vqs", "-o", "more.vqs")
    assert [Stream.load(f"{n}.vqs").frames for n in ("joined", "more")] == [50, 75]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "latin-1"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_lists_in_every_encoding(encoding, newline, tmp_path) -> None:
    names = ["talk.wav", "gr\u00fc\u00dfe.wav", " spaces in it.wav"]
    lines = newline.join([*names, ""])
    data = lines.encode(encoding)
    if encoding == "utf-16-be":
        data = b"\xfe\xff" + data
    path = tmp_path / "list.txt"
    path.write_bytes(data)
    found = find_inputs([f"@{path}"])
    shown = "gr\u00fc\u00dfe.wav".encode("latin-1") if encoding == "latin-1" else names[1].encode()
    assert [os.fsencode(p) for p in found] == [b"talk.wav", shown, b"spaces in it.wav"]


def test_lists_of_data_sets(tmp_path) -> None:
    (tmp_path / "list.txt").write_text("user/corpus\na-*.tar\n")
    expanded = expand_lists(["own.parquet", f"@{tmp_path}/list.txt"])
    assert expanded == ["own.parquet", "user/corpus", "a-*.tar"]


def test_a_list_that_is_no_text(tmp_path) -> None:
    (tmp_path / "list.txt").write_bytes(b"a\0b")
    with pytest.raises(VqasrError, match="no text file"):
        find_inputs([f"@{tmp_path}/list.txt"])


NAMES = [
    b"plain.wav",
    b"\xff\xfe.wav",
    b"[red]x[/red].wav",
    b"out[/red].wav",
    b"new\nline.wav",
    b"esc\x1b[31m.wav",
    "日本語 grüße.wav".encode(),
    b"-dash.wav",
    b"@at.wav",
    b"a b'c\".wav",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_every_kind(name, talk, tmp_path, monkeypatch) -> None:
    folder = tmp_path / "out[/red]"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    path = Path(os.fsdecode(name))
    path.parent.mkdir(exist_ok=True)
    shutil.copy(talk, path)
    given = f"./{path}" if name.startswith((b"-", b"@")) else path
    encoded = vqasr("encode", given, "-o", folder, "-n", 1).stderr
    assert "\x1b" not in encoded
    assert len(encoded.strip().splitlines()) == 1
    stream = Path(path.stem + ".vqs")
    texts = vqasr("transcribe", f"./{stream}", "--asr", "ctc-small", "--json").stdout
    assert json.loads(texts)[0]["file"] == str(stream)
    stream.write_bytes(b"broken")
    for command in (("info",), ("transcribe", "--asr", "ctc-small"), ("decode", "-o", "a.wav")):
        error = vqasr(*command, f"./{stream}", ok=False).stderr
        assert "\x1b" not in error
        assert len(error.strip().splitlines()) == 1


def test_an_ascii_terminal(stream, tmp_path) -> None:
    odd = tmp_path / "grüße.vqs"
    odd.write_bytes(stream.read_bytes()[:-3])
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "vqasr", "info", str(odd)], capture_output=True, env=environment
    )
    assert b"Traceback" not in done.stderr
    assert done.stderr.startswith(b"error: ")
    assert done.stderr.count(b".vqs") == 1


def test_one_bad_file_never_stops_the_others(talk, stream, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("no audio")
    soundfile.write("nan.wav", np.full(800, np.nan), 16_000, subtype="FLOAT")
    (tmp_path / "link.wav").symlink_to("nowhere.wav")
    os.mkdir("folder.wav")
    soundfile.write("z.wav", read_audio(talk), 16_000)
    bad = ["missing.wav", "empty.wav", "text.wav", "nan.wav", "link.wav"]
    run = any_result("encode", "talk.wav", *bad, "z.wav", "-o", "out", "-n", 1)
    assert run.returncode == 1
    assert sorted(p.name for p in Path("out").iterdir()) == ["talk.vqs", "z.vqs"]
    for name in bad:
        assert run.stderr.count(name) == 1, run.stderr
    run = any_result("transcribe", "talk.wav", *bad, "z.wav", "--asr", "ctc-small", "--json")
    assert [r["file"] for r in json.loads(run.stdout)] == ["talk.wav", "z.wav"]
    for name in bad:
        assert run.stderr.count(name) == 1, run.stderr


def test_what_a_file_promises_is_reported(talk, tmp_path) -> None:
    cut = tmp_path / "cut.wav"
    cut.write_bytes(talk.read_bytes()[:20_000])
    run = vqasr("transcribe", cut, "--asr", "ctc-small", "--json")
    assert "promises 1.00 s, the file holds 0.62 s" in run.stderr
    assert "promises 1.00 s" in json.loads(run.stdout)[0]["warnings"][0]
    assert "promises 1.00 s" in vqasr("encode", cut, "-o", tmp_path / "cut.vqs").stderr
    whole = vqasr("transcribe", talk, "--asr", "ctc-small", "--json")
    assert json.loads(whole.stdout)[0]["warnings"] == []


@pytest.mark.parametrize("suffix", [".m4a", ".webm", ".mka", ".aac"])
def test_formats_of_ffmpeg(suffix, tmp_path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / f"talk{suffix}"
    samples = read_audio(CLIP)
    kind = "libopus" if suffix == ".webm" else "aac"
    with av.open(str(path), "w") as container:
        track = container.add_stream(kind, rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], "flt", "mono")
        frame.sample_rate = 16_000
        resampler = av.AudioResampler(
            "fltp" if kind == "aac" else "flt",
            "mono",
            48_000,
            frame_size=1024 if kind == "aac" else 960,
        )
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(track.encode(piece))
        container.mux(track.encode(None))
    read = read_audio(path)
    assert len(read) == pytest.approx(len(samples), abs=4000)
    n = min(len(read), len(samples))
    spectra = [np.abs(np.fft.rfft(x[:n])) for x in (read, samples)]
    assert np.corrcoef(*spectra)[0, 1] > 0.9


def test_formats_of_ffmpeg_without_it(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "talk.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    run = vqasr("encode", tmp_path / "talk.m4a", "-o", tmp_path / "x.vqs", ok=False)
    assert "vqasr[formats]" in run.stderr
