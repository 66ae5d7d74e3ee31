"""`vqasr evaluate` on a small parquet of the bundled clips."""

import csv
import json
import re
import shutil
from pathlib import Path

import pytest
from datasets import Dataset
from typer.testing import CliRunner

from vqasr.assets import CLIPS
from vqasr.cli.commands import app
from vqasr.compression.compress import compress
from vqasr.errors import RecogniserError, VqasrError
from vqasr.evaluation import evaluate as evaluate_module
from vqasr.evaluation.report import marked
from vqasr.evaluation.run import ResultsFolder, with_references, with_statistics
from vqasr.evaluation.system_names import expand_systems, make_system
from vqasr.evaluation.text_floor import text_bytes

FIELDS = {
    "system", "utterances", "words", "seconds", "bytes", "coded_bps", "nominal_bps",
    "wer", "delta_wer", "wer_ci95", "delta_wer_ci95", "ci_over", "substitutions", "deletions",
    "insertions", "hallucinations", "encode_rtf", "asr_rtf", "threads",
}  # fmt: skip


@pytest.fixture(scope="module")
def parquet(tmp_path_factory) -> Path:
    entries = json.loads((CLIPS / "clips.json").read_text())[:4]
    path = tmp_path_factory.mktemp("data") / "clips.parquet"
    Dataset.from_list(
        [
            {
                "audio": {"bytes": (CLIPS / e["file"]).read_bytes(), "path": None},
                "transcript": e["text"],
            }
            for e in entries
        ]
    ).to_parquet(path)
    return path


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_rows_and_definitions(parquet, tmp_path, codec, clips, caplog) -> None:
    out = tmp_path / "out"
    arguments = ["--data", parquet, "--text-column", "transcript", "--limit", 1, "--out", out]
    arguments += ["--systems", "pcm,vqasr:2,vqasr:continuous"]
    output = run(*arguments)
    assert "vqasr:2: WER" in output
    assert "points over pcm" in output
    results = json.loads((out / "results.json").read_text())
    assert results["asr"] == "tiny.en"
    assert results["data"] == str(parquet)
    pcm, two, continuous = results["results"]
    assert set(pcm) >= FIELDS
    assert pcm["cer"] <= two["cer"] <= two["wer"] < 0.1
    seconds = sum(len(c.samples) for c in clips[:1]) / 16_000
    size = sum(
        len(compress(c.samples, codec=codec, num_quantizers=2).to_bytes()) for c in clips[:1]
    )
    frames = sum(codec.config.frames(len(c.samples)) for c in clips[:1])
    assert two["utterances"] == 1
    assert two["words"] == pcm["words"] > 10
    assert two["seconds"] == pytest.approx(seconds, abs=1e-3)
    assert two["bytes"] == size
    assert two["coded_bps"] == pytest.approx(8 * size / seconds, abs=0.01)
    assert two["nominal_bps"] == pytest.approx(frames * 20 / seconds, abs=0.01)
    assert two["prior_bps"] < two["coded_bps"] < two["nominal_bps"]
    assert two["order0_bps"] < two["nominal_bps"]
    assert two["prior_bps_pauses"] < two["prior_bps_speech"]
    overhead = 8 * (16 + 10) / seconds  # a file of one chunk
    assert two["coded_bps"] < 1.03 * two["prior_bps"] + overhead
    assert list(two["container_bps"]) == ["1 s", "5 s", "60 s"]
    assert two["coding_rtf"] > 0
    assert pcm["coded_bps"] == pytest.approx(256_000, rel=1e-3)
    assert pcm["delta_wer"] == 0
    assert pcm["wer"] < 0.05
    assert two["delta_wer"] == pytest.approx(two["wer"] - pcm["wer"], abs=1e-5)
    assert pcm["delta_wer_ci95"] == [0, 0]
    assert two["wer_ci95"][0] <= two["wer"] <= two["wer_ci95"][1]
    errors = two["substitutions"] + two["deletions"] + two["insertions"]
    assert errors / two["words"] == pytest.approx(two["wer"], abs=1e-5)
    assert continuous["bytes"] is None
    assert continuous["wer"] < 0.2
    assert pcm["encode_rtf"] is None
    assert 0 < two["encode_rtf"] < two["asr_rtf"]
    table = (out / "table.md").read_text()
    assert "vqasr:2" in table
    assert "pesq_wb" not in table  # a column without values
    assert f"| pcm | 256000 | {100 * pcm['wer']:.1f} | 0.0 |" in table
    # Finished systems are not measured again.
    before = (out / "systems" / "pcm.json").read_text()
    run(*arguments)
    assert not caplog.messages
    assert (out / "systems" / "pcm.json").read_text() == before
    run(*arguments[:-1], "pcm")
    assert "vqasr:2, vqasr:continuous. Name them" in caplog.text
    transcripts = json.loads(before)["transcripts"]
    assert [t["text"] for t in transcripts] == [c.text for c in clips[:1]]


def test_a_recogniser_that_reads_only_codes(parquet, tmp_path) -> None:
    out = tmp_path / "out"
    start = ["--data", parquet, "--text-column", "transcript", "--limit", 1, "--asr", "ctc-small"]
    run(*start, "--out", out)
    results = json.loads((out / "results.json").read_text())["results"]
    assert [row["system"] for row in results] == ["vqasr:1", "vqasr:2", "vqasr:4", "text"]
    assert (out / "curve.png").is_file()  # draws WER itself, since there is no pcm
    data = re.search(r'id="data">(.*?)</script>', (out / "report.html").read_text(), re.DOTALL)[1]
    assert len(json.loads(data)["sounds"]["reference"]) == 1
    for name in ("pcm", "opus:6000", "vqasr:4:audio"):
        with pytest.raises(RecogniserError, match=f"'{name}' makes audio.* reads only codes"):
            run(*start, "--systems", name, "--out", out)


def test_an_interrupted_evaluation_has_a_report(parquet, tmp_path, monkeypatch) -> None:
    """The page shows the systems that are finished, and goes on growing."""

    def page() -> list[str]:
        text = (tmp_path / "out" / "report.html").read_text()
        rows = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])["rows"]
        return [row["system"] for row in rows]

    def interrupted(system, *arguments):
        if system.name == "vqasr:2":
            raise KeyboardInterrupt
        return measure(system, *arguments)

    measure = evaluate_module.evaluate_system
    arguments = ["--data", parquet, "--text-column", "transcript", "--limit", 1]
    arguments += ["--systems", "vqasr:1,vqasr:2", "--asr", "ctc-small", "--out", tmp_path / "out"]
    with monkeypatch.context() as patch:
        patch.setattr(evaluate_module, "evaluate_system", interrupted)
        assert CliRunner().invoke(app, ["evaluate", *map(str, arguments)]).exit_code
    assert page() == ["vqasr:1"]
    run(*arguments)
    assert page() == ["vqasr:1", "vqasr:2"]


def test_lost_chunks(parquet, tmp_path) -> None:
    arguments = ["--data", parquet, "--text-column", "transcript", "--limit", 2]
    arguments += ["--systems", "vqasr:4", "--chunk-loss", "0,40", "--chunk-s", 1]
    arguments += ["--asr", "ctc-small"]
    rows = {}
    for seed in (1, 1, 2):
        out = tmp_path / str(len(rows))
        run(*arguments, "--seed", seed, "--out", out)
        rows[len(rows)] = json.loads((out / "results.json").read_text())["results"]
    assert [r["system"] for r in rows[0]] == ["vqasr:4+loss0", "vqasr:4+loss40"]
    wers = [[r["wer"] for r in rows[i]] for i in range(3)]
    assert wers[0] == wers[1] != wers[2]
    assert wers[0][0] < wers[0][1]
    bad = CliRunner().invoke(
        app, ["evaluate", "--data", str(parquet), "--chunk-loss", "x", "--out", str(tmp_path)]
    )
    assert isinstance(bad.exception, VqasrError)


def test_packed_texts_are_smaller(clips) -> None:
    texts = [clip.text for clip in clips]
    assert text_bytes("text:xz", texts) < text_bytes("text", texts)


def test_a_lost_end_is_silent(codec, ctc, clips) -> None:
    """Audio of a lossy line is as long as the recording, to be compared with it."""
    samples = clips[0].samples[:63_900]  # no whole number of frames
    system = make_system("vqasr:1+loss60", codec, ctc, chunk_frames=5, seed=1)
    heard = [system.decode(samples) for _ in range(6)]
    assert {len(audio) for audio in heard} == {len(samples)}
    assert any(not audio[-3200:].any() for audio in heard)  # the last chunk of some is lost


def test_conditions_side_by_side(parquet, tmp_path) -> None:
    out = tmp_path / "out"
    run("--data", parquet, "--text-column", "transcript", "--limit", 1, "--asr", "ctc-small",
        "--conditions", "clean,noise:-10", "--systems", "vqasr:1,vqasr:4", "--out", out,
    )  # fmt: skip
    results = {
        name: json.loads((out / name / "results.json").read_text())
        for name in ("clean", "noise--10")
    }
    assert results["noise--10"]["condition"] == "noise:-10"
    wers = [[row["wer"] for row in found["results"]] for found in results.values()]
    assert wers[0][1] < wers[1][1]
    table = (out / "slices.md").read_text().splitlines()
    assert table[0] == "| system | clean | noise:-10 | worst / best |"
    assert len(table) == 4


def test_data_sets_side_by_side(parquet, tmp_path) -> None:
    other = tmp_path / "other-00000-of-00001.parquet"
    other.write_bytes(Path(parquet).read_bytes())
    out = tmp_path / "out"
    run("--data", parquet, "--data", other, "--text-column", "transcript", "--limit", 1,
        "--systems", "text,vqasr:4", "--conditions", "clean,telephone", "--asr", "ctc-small",
        "--out", out)  # fmt: skip
    name = Path(parquet).stem
    for folder in (out / name / "clean", out / "other" / "telephone"):
        assert json.loads((folder / "results.json").read_text())["results"]
    table = (out / "slices.md").read_text().splitlines()
    labels = [f"{name}, clean", f"{name}, telephone", "other, clean", "other, telephone"]
    assert table[0] == f"| system | {' | '.join(labels)} | worst / best |"
    twice = ["evaluate", "--data", str(parquet), "--data", str(parquet), "--out", str(out)]
    assert isinstance(CliRunner().invoke(app, twice).exception, VqasrError)


def test_a_new_adapter_keeps_results_that_do_not_depend_on_it(tmp_path, caplog) -> None:
    (tmp_path / "a").write_bytes(b"1")
    kmeans = f"kmeans:{tmp_path / 'a'}"
    for name in ("pcm", "opus:6000", "vqasr:2", kmeans):
        ResultsFolder(tmp_path, {"rows": "x", "adapter": "1"}).add({"system": name}, [], [])

    def measured(**settings: str) -> list[bool]:
        folder = ResultsFolder(tmp_path, settings)
        return [folder.finished(n) is not None for n in ("pcm", "opus:6000", "vqasr:2", kmeans)]

    assert measured(rows="x", adapter="1") == [True, True, True, True]
    assert not caplog.messages
    assert measured(rows="x", adapter="2") == [True, True, False, True]
    (message,) = caplog.messages
    assert "vqasr:2 were measured with other settings (adapter)" in message
    assert measured(rows="y", adapter="1") == [False, False, False, False]
    (tmp_path / "a").write_bytes(b"2")
    assert measured(rows="x", adapter="1") == [True, True, True, False]
    folder = ResultsFolder(tmp_path, {"rows": "x"})
    folder.add({"system": "hf:a/b@1500"}, [], [])
    assert folder.finished("hf:a/b@1500") is not None
    assert folder.finished("hf:a_b@1500") is None


def test_corrected_transcripts_count_in_results_that_exist() -> None:
    row = {"system": "pcm", "words": 3, "wer": 1.0, "cer": 0.9, "bytes": 7}
    hypotheses = ["red blue", "green"]
    corrected = with_references(row, ["red blue", "grey green"], hypotheses)
    assert corrected == row | {"words": 4, "wer": 0.25, "cer": None}
    (done,) = with_statistics([corrected], ["red blue", "grey green"], [hypotheses])
    assert (done["wer"], done["deletions"]) == (0.25, 1)
    assert done["cer"] == pytest.approx(5 / 18, abs=1e-4)


def test_delta_is_null_without_pcm() -> None:
    rows = [{"system": "vqasr:1", "wer": 0.5, "delta_wer": None}]
    (row,) = with_statistics(rows, ["red blue"], [["red blew"]])
    assert row["delta_wer"] is row["delta_wer_ci95"] is None
    assert row["substitutions"] == 1
    assert row["wer_ci95"] == [0.5, 0.5]


def test_errors_are_marked() -> None:
    assert marked("the blue red cat sat", "the red bat sat up") == (
        'the <span class="del">blue</span> red <span class="sub" title="cat">bat</span> sat '
        '<span class="ins">up</span>'
    )
    assert marked("", "noise") == "noise"


def test_all_expands_to_every_number_of_codebooks(codec) -> None:
    assert expand_systems("pcm,vqasr:all", codec) == [
        "pcm", *(f"vqasr:{n}" for n in range(1, 9))
    ]  # fmt: skip


def test_classical_codecs_and_text_floors(parquet, tmp_path, monkeypatch, clips) -> None:
    pytest.importorskip("av")
    monkeypatch.setattr(shutil, "which", lambda name: None)  # no codec2
    out = tmp_path / "out"
    run("--data", parquet, "--text-column", "transcript", "--limit", 1, "--out", out,
        "--systems", "pcm,opus:6000,codec2:700C,vqasr:4,vqasr:4:audio,text,text:xz")  # fmt: skip
    results = json.loads((out / "results.json").read_text())
    pcm, opus, direct, decoded, text, packed = results["results"]
    assert decoded["bytes"] == direct["bytes"]
    assert decoded["wer"] < 1
    assert text["wer"] == packed["wer"] == 0
    assert text["bytes"] == sum(len(clip.text) + 1 for clip in clips[:1])
    assert packed["bytes"] == text_bytes("text:xz", [clips[0].text])
    assert 4_000 < opus["coded_bps"] < 7_000
    assert opus["encode_rtf"] > 0
    assert opus["nominal_bps"] is opus["prior_bps"] is None
    assert opus["wer"] >= pcm["wer"]
    assert list(results["skipped"]) == ["codec2:700C"]
    assert "not installed" in (out / "table.md").read_text()
    with open(out / "results.csv") as file:
        assert [row["system"] for row in csv.DictReader(file)] == [
            row["system"] for row in results["results"]
        ]
    assert (out / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (out / "curve.svg").read_text()
    page = (out / "report.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert [row["system"] for row in data["rows"]] == [r["system"] for r in results["results"]]
    assert all(len(sounds) == 1 for sounds in data["sounds"].values())
    assert set(data["sounds"]) == {"pcm", "opus:6000", "vqasr:4", "vqasr:4:audio"}
    assert not re.search(r'(src|href)="http', page)


@pytest.mark.parametrize(
    "names", ["opus:6", "vqasr:9", "vqasr:0", "vqasr:x", "vqasr:²", "", "vqasr"]
)
def test_unknown_systems(codec, names) -> None:
    with pytest.raises(VqasrError):
        expand_systems(names, codec)


def test_a_rate_without_its_unit(codec) -> None:
    with pytest.raises(VqasrError, match=r"8 codebooks\. For a bitrate: vqasr:400bps"):
        expand_systems("vqasr:400", codec)


def test_missing_column_and_file(parquet, tmp_path, monkeypatch) -> None:
    from vqasr.errors import AudioError

    with pytest.raises(AudioError, match="--text-column"):
        run("--data", parquet, "--out", tmp_path)
    (tmp_path / "audio").mkdir()
    shutil.copy(CLIPS / "clip01_af_heart.flac", tmp_path / "audio")
    with pytest.raises(AudioError, match=r"needs a metadata\.csv with the columns file_name,text"):
        run("--data", tmp_path / "audio", "--out", tmp_path / "out")
    with pytest.raises(AudioError, match="no such file"):
        run("--data", tmp_path / "none.parquet", "--out", tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    with pytest.raises(AudioError, match="no such file"):
        run("--data", "mine/dev", "--out", tmp_path)
    with pytest.raises(AudioError, match="yours/dev: there is no such folder, and it cannot be"):
        run("--data", "yours/dev", "--out", tmp_path)
