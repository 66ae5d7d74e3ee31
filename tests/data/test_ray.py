"""Work on a real Ray cluster of two workers: each shard once, whatever is killed."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import slow_work
from datasets import Dataset
from process_helpers import wait_for_end
from typer.testing import CliRunner

from vqasr.adapters.transcribe_data import TranscribeConfig, transcribe_data
from vqasr.assets import CLIPS
from vqasr.cli.commands import app
from vqasr.data.engines import LocalEngine, RayEngine
from vqasr.data.tokenized import TokenizeConfig, tokenize
from vqasr.errors import CodecMismatchError, VqasrError
from vqasr.stream.header import StreamHeader
from vqasr.stream.stream import Stream

ray = pytest.importorskip("ray")
TWO = RayEngine(2)
HELPERS = str(Path(slow_work.__file__).parent)


@pytest.fixture(scope="module")
def cluster():
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_worker_niceness", "0")
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = HELPERS  # workers inherit it
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()
    os.environ["PYTHONPATH"] = before or ""


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> str:
    names = sorted(path.name for path in CLIPS.glob("*.flac"))[:3]
    rows = [{"id": n, "text": n, "audio": {"bytes": (CLIPS / n).read_bytes()}} for n in names]
    rows.insert(1, {"id": "broken", "text": "", "audio": {"bytes": b"no audio"}})
    path = tmp_path_factory.mktemp("clips") / "clips.parquet"
    Dataset.from_list(rows).to_parquet(path)
    return str(path)


@pytest.fixture(scope="module")
def texts(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("texts") / "texts.parquet"
    # One shard is larger than the disk of `test_a_full_disk`.
    rows = [{"text": f"{i} " * 9 + os.urandom(70_000 * (i // 4 == 6)).hex()} for i in range(40)]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


def contents(folder: Path, pattern: str = "*.parquet") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob(pattern))}


@pytest.fixture(scope="module")
def expected(texts, tmp_path_factory) -> dict[str, bytes]:
    out, notes = (tmp_path_factory.mktemp(name) for name in ("expected", "notes"))
    slow_work.run(texts, str(out), str(notes), LocalEngine())
    return contents(out)


def test_the_same_bytes_as_here(cluster, clips, tmp_path) -> None:
    config = TokenizeConfig((clips,), bps=500, column="vqs")
    left_out = tokenize(config, tmp_path / "here", 2)
    assert tokenize(config, tmp_path / "there", 2, TWO) == left_out
    assert [text.split(":")[0] for text in left_out] == ["clips.parquet, row 1"]
    here, there = (contents(tmp_path / name, "*") for name in ("here", "there"))
    assert here == there
    assert len(here) == 5  # two shards, settings, two lists of what was left out


def test_a_full_disk_and_killed_workers(cluster, texts, expected, tmp_path) -> None:
    (tmp_path / "full").touch()
    with pytest.raises(VqasrError, match=r"texts-00006-of-00010.parquet: File too large"):
        slow_work.run(texts, str(tmp_path / "out"), str(tmp_path), TWO)
    found = contents(tmp_path / "out")
    assert found.items() < expected.items()
    (tmp_path / "full").unlink()
    for note in tmp_path.glob("*.pid"):
        note.unlink()
    # As a worker leaves it that is killed while it writes.
    (tmp_path / "out" / f".vqasr-{'0' * 16}-texts-00009-of-00010.parquet.tmp").touch()
    killed: set[int] = set()

    def kill_two_at_work() -> None:
        while len(killed) < 2:
            time.sleep(0.05)
            for victim in {int(path.stem) for path in tmp_path.glob("*.pid")} - killed:
                time.sleep(0.3)
                killed.add(victim)
                os.kill(victim, signal.SIGKILL)

    threading.Thread(target=kill_two_at_work, daemon=True).start()
    slow_work.run(texts, str(tmp_path / "out"), str(tmp_path), TWO, 0.3)
    assert len(killed) >= 2
    assert len([*tmp_path.glob("*.pid")]) > 2  # others took their place
    assert contents(tmp_path / "out") == expected
    assert not [*(tmp_path / "out").glob(".vqasr-*")]


def test_a_killed_command_goes_on(texts, expected, tmp_path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, slow_work.__file__, texts, str(out), str(tmp_path), "0.3"]
    env = os.environ | {"PYTHONPATH": HELPERS}
    driver = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
    while not [*out.glob("*.parquet")]:
        assert driver.poll() is None
        time.sleep(0.1)
    driver.kill()
    driver.wait()
    workers = [int(note.stem) for note in tmp_path.glob("*.pid")]
    wait_for_end(workers, 60)
    before = {p: p.stat().st_mtime_ns for p in out.glob("*.parquet")}
    assert 1 <= len(before) < len(expected)
    slow_work.run(texts, str(out), str(tmp_path), LocalEngine())
    assert contents(out) == expected
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_transcripts(clips, tmp_path) -> None:
    config = TranscribeConfig((clips,), asr="ctc-small", num_quantizers=2)
    left_out = transcribe_data(config, tmp_path / "here", 2)
    assert [text.split(":")[0] for text in left_out] == ["clips.parquet, row 1"]
    rows = Dataset.from_parquet([str(p) for p in sorted((tmp_path / "here").glob("*.parquet"))])
    assert rows.column_names == ["id", "text", "transcript"]
    assert len(rows) == 3
    assert all(len(text.split()) > 3 for text in rows["transcript"])
    tokenize(TokenizeConfig((clips,), num_quantizers=2), tmp_path / "codes")
    config = TranscribeConfig((str(tmp_path / "codes"),), asr="ctc-small", timestamps=True)
    assert transcribe_data(config, tmp_path / "of_codes") == []
    again = Dataset.from_parquet([str(p) for p in (tmp_path / "of_codes").glob("*.parquet")])
    assert again["transcript"][:] == rows["transcript"][:]
    assert again[0]["segments"][-1]["end_s"] > 1
    for column in ("codes", "vqs"):
        folder = tmp_path / column / "others"
        tokenize(TokenizeConfig((clips,), num_quantizers=2, column=column), folder)
        (path,) = folder.glob("*.parquet")
        table = pq.read_table(path)
        about = {"codec": "00" * 6}
        if column == "vqs":  # the stream itself names another codec
            other = Stream(StreamHeader(b"abc", 2, 10, 640), np.zeros((2, 50), np.int64), 32_000)
            wrong = [other.to_bytes()] * len(table)
            table = table.set_column(table.column_names.index("vqs"), "vqs", [wrong])
        else:
            table = table.replace_schema_metadata({"vqasr": json.dumps(about)})
        pq.write_table(table, path)
        config = TranscribeConfig((str(path),), asr="ctc-small")
        if column == "codes":
            with pytest.raises(CodecMismatchError, match="holds codes of codec 000000000000"):
                transcribe_data(config, tmp_path / "refused")
        else:
            messages = transcribe_data(config, tmp_path / "left_out")
            assert len(messages) == 3
            assert all("codec 616263" in message for message in messages), messages


def test_systems_are_measured_beside_each_other(cluster, clips, tmp_path) -> None:
    whole = Dataset.from_parquet(clips).filter(lambda row: row["id"] != "broken")
    whole.to_parquet(tmp_path / "whole.parquet")
    arguments = ["evaluate", "--data", str(tmp_path / "whole.parquet"), "--asr", "ctc-small"]
    arguments += ["--systems", "vqasr:1,vqasr:4", "--threads", "1"]
    found = []
    for name, more in (("here", []), ("there", ["--engine", "ray", "--processes", "1"])):
        out = ["--out", str(tmp_path / name)]
        result = CliRunner().invoke(app, [*arguments, *out, *more], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        rows = [*csv_rows(tmp_path / name / "results.csv")]
        found.append([(row["system"], row["wer"], row["bytes"]) for row in rows])
    assert found[0] == found[1]


def csv_rows(path: Path):

    with open(path) as file:
        yield from csv.DictReader(file)


def test_files_are_shared_among_workers(cluster, tmp_path) -> None:
    names = sorted(path.name for path in CLIPS.glob("*.flac"))[:2]
    (tmp_path / "bad.wav").write_bytes(b"RIFF no audio")
    inputs = [*(str(CLIPS / name) for name in names), str(tmp_path / "bad.wav")]
    arguments = ["transcribe", *inputs, "--asr", "ctc-small", "--engine", "ray", "--processes", "1"]
    alone = CliRunner().invoke(app, arguments)
    assert "give -o DIR" in str(alone.exception)
    shared = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "out")])
    assert "1 of 3 inputs could not be transcribed" in str(shared.exception)
    assert "bad.wav" in shared.output
    texts = contents(tmp_path / "out", "*.txt")
    assert len(texts) == 2
    alone = CliRunner().invoke(app, ["transcribe", inputs[0], "--asr", "ctc-small"])
    assert alone.stdout == texts[Path(names[0]).with_suffix(".txt").name].decode()
