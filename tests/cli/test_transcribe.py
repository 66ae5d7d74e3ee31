"""Transcribe many files: inputs, outputs, formats, errors."""

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from cli_helpers import run as vqasr
from hypothesis import given
from hypothesis import strategies as st

from vqasr.adapters.segments import Segment
from vqasr.adapters.transcriber import Transcriber, Transcript, transcribe
from vqasr.assets import CLIPS
from vqasr.cli.inputs import expand_lists, find_inputs
from vqasr.cli.subtitles import format_segments
from vqasr.errors import RecogniserError, VqasrError

CLIP = CLIPS / "clip01_af_heart.flac"
CTC = ("--asr", "ctc-small")
LONG = CLIPS / "long01_af_heart.ogg"
END_S = 42.0  # more than a window of Whisper


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "talks"
    (folder / "day").mkdir(parents=True)
    for name in ("b.flac", "a.WAV", "day/c.vqs", "day/notes.md"):
        (folder / name).write_bytes(b"x")
    return folder


def test_folders_patterns_and_lists(folder, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    a, b, c = folder / "a.WAV", folder / "b.flac", folder / "day" / "c.vqs"
    assert find_inputs([str(folder)]) == [a, b, c]
    assert find_inputs([f"{folder}/*.flac", str(a)]) == [b, a]
    assert find_inputs([f"{folder}/**/*.vqs"]) == [c]
    names = tmp_path / "list.txt"
    names.write_text(f"{c}\n\n{folder}\n")
    assert find_inputs([f"@{names}"]) == [c, a, b]
    for odd in (folder / "talk[1].wav", Path("@talk.wav")):
        odd.write_bytes(b"x")
        assert find_inputs([str(odd)]) == [odd]
    names.write_text(f"@{names}\n{c}\n")
    assert find_inputs([f"@{names}"]) == [Path(f"@{names}"), c]  # missing beside another
    with pytest.raises(VqasrError, match=r"none\.wav: No such file"):
        find_inputs(["none.wav"])
    for nothing in (f"{folder}/*.mp3", "@/nowhere.txt"):
        with pytest.raises(VqasrError):
            find_inputs([nothing])
    (tmp_path / "empty").mkdir()
    with pytest.raises(VqasrError, match="no input files"):
        find_inputs([str(tmp_path / "empty")])
    names.write_text("\n")
    for read in (find_inputs, expand_lists):
        with pytest.raises(VqasrError, match=r"list\.txt: the list is empty"):
            read([f"@{names}"])


TIMES = st.floats(0, 359_999)  # 100 hours is the longest that the formats can write


@given(
    st.lists(
        st.builds(Segment, TIMES, TIMES, st.text(alphabet="ab\t\n<&>-", min_size=1)), max_size=5
    )
)
def test_every_segment_is_one_cue(segments) -> None:
    clock = r"\d\d+:[0-5]\d:[0-5]\d[,.]\d{3}"
    cue = re.compile(rf"^{clock} --> {clock}$", re.MULTILINE)
    for form in ("srt", "vtt"):
        assert len(cue.findall(format_segments(segments, form))) == len(segments)
    assert format_segments(segments, "vtt").startswith("WEBVTT\n")
    rows = format_segments(segments, "tsv").splitlines()
    assert len(rows) == 1 + len(segments)
    for row, segment in zip(rows[1:], segments, strict=True):
        start, end, _ = row.split("\t")
        assert (int(start), int(end)) == (
            round(1000 * segment.start_s),
            round(1000 * segment.end_s),
        )


def test_the_formats_to_the_letter() -> None:
    segments = [Segment(0.0, 1.5, "One & two."), Segment(3661.25, 3662.0, "Three.")]
    assert format_segments(segments, "srt") == (
        "1\n00:00:00,000 --> 00:00:01,500\nOne & two.\n\n"
        "2\n01:01:01,250 --> 01:01:02,000\nThree.\n\n"
    )
    assert format_segments(segments, "vtt") == (
        "WEBVTT\n\n1\n00:00:00.000 --> 00:00:01.500\nOne &amp; two.\n\n"
        "2\n01:01:01.250 --> 01:01:02.000\nThree.\n\n"
    )
    assert format_segments(segments, "tsv") == (
        "start\tend\ttext\n0\t1500\tOne & two.\n3661250\t3662000\tThree.\n"
    )
    assert format_segments(segments, "text") == (
        "[00:00:00.000 --> 00:00:01.500] One & two.\n[01:01:01.250 --> 01:01:02.000] Three.\n"
    )


@pytest.fixture(scope="module")
def transcriber() -> Transcriber:
    return Transcriber()


@pytest.fixture(scope="module")
def whole(transcriber) -> Transcript:
    return transcriber(LONG, timestamps=True, end_s=END_S)


@pytest.mark.parametrize("uncompressed", [False, True])
def test_segments_cover_a_long_recording(whole, uncompressed) -> None:
    result = whole
    if uncompressed:
        result = Transcriber(uncompressed=True)(LONG, timestamps=True, end_s=END_S)
    segments = result.segments
    assert len(segments) > 5
    assert result.text == " ".join(s.text for s in segments)
    for before, after in itertools.pairwise(segments):
        assert 0 <= before.start_s <= before.end_s <= after.start_s + 0.5
    assert segments[-1].end_s <= END_S + 0.5
    assert segments[-1].end_s > END_S - 5


def test_times_are_those_of_the_whole_recording(transcriber, whole) -> None:
    start_s = whole.segments[3].start_s
    part = transcriber(LONG, start_s=start_s, end_s=start_s + 12, timestamps=True).segments
    assert abs(part[0].start_s - start_s) < 1.5
    assert part[-1].end_s <= start_s + 12.1


def test_timestamps_of_words_are_those_of_the_pipeline(transcriber) -> None:
    for call in (transcriber, transcribe):
        with pytest.raises(VqasrError, match=r"timestamps='word': .* CodesPipeline"):
            call(CLIP, timestamps="word")


def test_many_files_into_a_folder_and_again(folder, tmp_path) -> None:
    for name in ("b.flac", "a.WAV"):
        (folder / name).unlink()
    (folder / "good.flac").write_bytes(CLIP.read_bytes())
    out = tmp_path / "texts"
    run = vqasr("transcribe", folder, "-o", out, "--format", "srt")
    assert run.returncode != 0
    assert "Traceback" not in run.stderr
    assert "c.vqs" in run.stderr
    assert "1 of 2" in run.stderr
    written = (out / "good.srt").read_text()
    assert written.startswith("1\n00:00:0")
    assert "warm bread before breakfast" in written
    (out / "good.srt").write_text("mine")
    (folder / "day" / "c.vqs").unlink()
    (folder / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    run = vqasr("transcribe", folder / "gone.wav", folder / "good.flac", *CTC)
    assert "gone.wav" in run.stderr
    assert "1 of 2" in run.stderr
    assert len(run.stdout.split()) > 5
    (folder / "gone.wav").unlink()
    assert (
        vqasr("transcribe", folder, "-o", out, "--format", "srt", "--skip-existing").returncode == 0
    )
    assert (out / "good.srt").read_text() == "mine"
    run = vqasr("transcribe", folder, "--format", "json", "--timestamps", *CTC)
    (result,) = json.loads(run.stdout)
    first = result["segments"][0]
    lines = vqasr("transcribe", folder, "--timestamps", *CTC).stdout.splitlines()
    assert len(lines) == len(result["segments"])
    assert lines[0].startswith("[00:00:0")
    assert lines[0].endswith(f"] {first['text']}")


def test_uncompressed_audio_needs_a_whisper_and_a_part_of_it(transcriber) -> None:
    with pytest.raises(RecogniserError, match="ctc-small reads codes only"):
        Transcriber("ctc-small", uncompressed=True)
    for timestamps in (False, True):
        uncompressed = Transcriber(uncompressed=True)
        assert uncompressed(CLIP, start_s=1000.0, timestamps=timestamps).text == ""


def test_a_data_set_has_no_other_format(tmp_path) -> None:
    for option in (("--format", "srt"), ("--json",), ("--pcm-hz", 8_000)):
        run = vqasr("transcribe", "--data", "x.parquet", "-o", tmp_path / "out", *option)
        assert run.returncode
        assert "leave --live" in run.stderr
    assert not (tmp_path / "out").exists()


def test_no_speech_is_a_warning(tmp_path) -> None:
    for name, samples in (("silence", 16_000), ("click", 800)):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(samples), 16_000)
    note = "no speech was found: the text is empty"
    paths = (CLIP, tmp_path / "silence.wav", tmp_path / "click.wav")
    run = vqasr("transcribe", *paths, "--asr", "ctc-small", "--json")
    assert [result["warnings"] for result in json.loads(run.stdout)] == [[], [note], []]
    assert run.stderr.count("warning:") == 1
    assert f"{tmp_path}/silence.wav: {note}" in run.stderr


def test_one_file_as_output(tmp_path) -> None:
    command = ("transcribe", CLIP, "--asr", "ctc-small")
    assert vqasr(*command, "-o", tmp_path / "new" / "talk.SRT").returncode == 0
    assert (tmp_path / "new" / "talk.SRT").read_text().startswith("1\n00:00:0")
    assert vqasr(*command, "-o", "-").stdout == vqasr(*command).stdout
    (tmp_path / "old.srt").mkdir()
    assert vqasr(*command, "-o", tmp_path / "old.srt").returncode == 0
    assert [path.name for path in (tmp_path / "old.srt").iterdir()] == [f"{CLIP.stem}.txt"]
    assert "has one of the endings .txt, .json" in vqasr(*command, "-o", tmp_path / "x.doc").stderr
    assert not (tmp_path / "x.doc").exists()
    file = tmp_path / "talk.vtt"
    for options in (["--format", "text"], ["--json"]):
        assert "talk.vtt is for vtt, but" in vqasr(*command, *options, "-o", file).stderr
    assert "one file for 2 inputs: give -o DIR" in vqasr(*command, LONG, "-o", file).stderr
    assert not file.exists()


def test_two_transcripts_in_one_place_are_refused(folder, tmp_path) -> None:
    again = folder / "day" / "b.wav"
    again.write_bytes(b"x")
    run = vqasr("transcribe", folder / "b.wav", again, "-o", tmp_path / "texts")
    assert "would both be written" in run.stderr
    assert not (tmp_path / "texts").exists()
    for times in (("--format", "vtt"), ("--timestamps",)):
        assert "give -o DIR" in vqasr("transcribe", folder, *times).stderr
