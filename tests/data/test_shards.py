"""Data sets in shards: every row once, from every kind of source, read in small pieces."""

import http.server
import io
import threading
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import slow_work
import soundfile
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from test_speech import audiofolder, shard

from vqasr.data.engines import LocalEngine
from vqasr.data.places import find_files
from vqasr.data.shard_folder import ShardFolder
from vqasr.data.shards import PIECE_ROWS, ShardedData, read_pieces
from vqasr.data.speech import load_speech
from vqasr.errors import AudioError, PlaceError, VqasrError


def rows_of(data: ShardedData) -> list[list[dict]]:
    return [
        [row for piece in read_pieces(shard, data.schema) for row in piece.to_pylist()]
        for shard in data.shards
    ]


def write(path: Path, count: int, group: int, first: int = 0) -> str:
    numbers = range(first, first + count)
    audio = [{"bytes": b"sound %d" % i, "path": None} for i in numbers]
    pq.write_table(pa.table({"n": [*numbers], "audio": audio}), path, row_group_size=group)
    return str(path)


@settings(max_examples=30, deadline=None)
@given(count=st.integers(1, 90), group=st.integers(1, 90), shard_rows=st.integers(1, 90))
def test_every_row_is_in_one_shard(tmp_path_factory, count, group, shard_rows) -> None:
    folder = tmp_path_factory.mktemp("rows")
    files = (write(folder / "a.parquet", count, group), write(folder / "b.parquet", 7, 3, count))
    data = ShardedData.open(files, None, shard_rows)
    shards = rows_of(data)
    assert [row["n"] for rows in shards for row in rows] == [*range(count + 7)]
    assert max(map(len, shards)) <= shard_rows
    assert [shard.number for shard in data.shards] == [*range(len(shards))]


def test_pieces_are_small(tmp_path) -> None:
    data = ShardedData.open([write(tmp_path / "a.parquet", 100, 100)], None, 50)
    for part in data.shards:
        assert max(len(piece) for piece in read_pieces(part, data.schema)) <= PIECE_ROWS


def test_shards_depend_on_the_data_alone(tmp_path) -> None:
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "a.parquet", 20, 20)
    here, there = (ShardedData.open([str(tmp_path / n)]) for n in ("here", "there"))
    assert here.fingerprint == there.fingerprint
    write(tmp_path / "there" / "a.parquet", 20, 20, 1)
    assert ShardedData.open([str(tmp_path / "there")]).fingerprint != here.fingerprint


def test_columns_are_those_that_all_files_have(tmp_path) -> None:
    write(tmp_path / "a.parquet", 3, 3)
    table = pq.read_table(tmp_path / "a.parquet").append_column("more", [["x"] * 3])
    pq.write_table(table, tmp_path / "b.parquet")
    data = ShardedData.open([str(tmp_path)])
    assert data.schema.names == ["n", "audio"]
    assert len(rows_of(data)) == 2


def test_tar_files_and_folders_of_audio(tmp_path) -> None:
    tar = str(shard(tmp_path / "a.tar", ["one", "two"]))
    data = ShardedData.open([tar])
    assert [row["text"] for row in rows_of(data)[0]] == ["text, one", "text, two"]
    folder = audiofolder(tmp_path / "with")
    data = ShardedData.open([str(folder)], None, 1)
    assert [row["text"] for rows in rows_of(data) for row in rows] == ["text, 0", "text, 1"]
    (folder / "metadata.csv").unlink()
    (folder / "notes.md").write_text("No audio.")
    data = ShardedData.open([str(folder)])
    assert [row["id"] for row in rows_of(data)[0]] == sorted(p.name for p in folder.glob("*.flac"))
    assert load_speech(folder)["id"] == [row["id"] for row in rows_of(data)[0]]


class _Server(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path):
    handler = partial(_Server, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def test_urls(server, tmp_path) -> None:
    pytest.importorskip("aiohttp")
    write(tmp_path / "a.parquet", 9, 4)
    shard(tmp_path / "b.tar", ["one", "two"])
    data = ShardedData.open([f"{server}/a.parquet"], None, 5)
    assert [row["n"] for rows in rows_of(data) for row in rows] == [*range(9)]
    texts = [row["text"] for row in rows_of(ShardedData.open([f"{server}/b.tar"]))[0]]
    assert texts == ["text, one", "text, two"]
    with pytest.raises(AudioError, match=r"c.parquet: cannot be reached \(FileNotFound"):
        ShardedData.open([f"{server}/c.parquet"])


def test_object_stores() -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    buffer = io.BytesIO()
    pq.write_table(pa.table({"n": [1, 2], "audio": [b"x", b"y"]}), buffer)
    store.pipe_file("/bucket/train-0.parquet", buffer.getvalue())
    store.pipe_file("/bucket/test-0.parquet", buffer.getvalue())
    assert find_files("memory://bucket", "train") == ["memory:///bucket/train-0.parquet"]
    assert len(find_files("memory://bucket/*.parquet")) == 2
    data = ShardedData.open(["memory://bucket"], "train")
    folder = ShardFolder("memory://bucket/out", "codes", "parquet", 1)
    folder.begin({"rate": 1})
    assert folder.finished() == set()
    folder.write(data.shards[0], pa.table({"n": [1]}), ["row 1: no audio"])
    assert folder.finished() == {0}
    assert folder.finish() == ["row 1: no audio"]
    assert pq.read_table(io.BytesIO(store.cat_file(folder.path(0)))).to_pydict() == {"n": [1]}
    with pytest.raises(VqasrError, match=r"other settings \(rate differ"):
        folder.begin({"rate": 2})


def test_damage_costs_the_rows_after_it(tmp_path) -> None:
    whole = shard(tmp_path / "a.tar", ["one", "two"]).read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[: whole.index(b"two.flac") + 900])
    out = tmp_path / "out"
    messages = slow_work.run(str(tmp_path / "a.tar"), str(out), str(tmp_path), LocalEngine())
    assert len(messages) == 1
    assert "a.tar: cannot be read as a WebDataset" in messages[0]
    assert pq.read_table(out)["text"].to_pylist() == ["text, one"]
    broken = tmp_path / "b.parquet"
    broken.write_bytes(b"PAR1 no parquet PAR1")
    with pytest.raises(AudioError, match=r"b.parquet: cannot be read as parquet"):
        ShardedData.open([str(broken)])


def test_a_place_that_cannot_be_reached_loses_nothing(tmp_path) -> None:
    """The run stops, instead of taking the rows for damaged."""
    for name, make in (("a.parquet", write), ("b.tar", shard)):
        source, out = tmp_path / name, tmp_path / f"out-{name}"
        if name == "b.tar":
            make(source, ["one", "two"])
        else:
            pq.write_table(pa.table({"text": [str(i) for i in range(9)]}), source)
        hidden = tmp_path / "hidden"

        def hide(done: int, total: int, source=source, hidden=hidden) -> None:
            if not done:
                source.rename(hidden)

        with pytest.raises(FileNotFoundError):
            slow_work.run(str(source), str(out), str(tmp_path), LocalEngine(), advance=hide)
        assert not [*out.glob("texts-*")]
        hidden.rename(source)
        assert slow_work.run(str(source), str(out), str(tmp_path), LocalEngine()) == []
        rows = Dataset.from_parquet([str(p) for p in out.glob("*.parquet")])
        assert len(rows) == (2 if name == "b.tar" else 9)
    with pytest.raises(PlaceError, match=r"no/such: cannot be found on the hub"):
        find_files("no/such")


def test_sources_that_are_no_data_set(tmp_path) -> None:
    soundfile.write(tmp_path / "a.wav", [0.0] * 100, 16_000)
    with pytest.raises(AudioError, match=r"\.wav'\] are no data set"):
        find_files(str(tmp_path / "a.wav"))
    with pytest.raises(AudioError, match="no file has such a name"):
        find_files(str(tmp_path / "*.parquet"))


def test_two_processes(tmp_path) -> None:
    """Of this machine; both work, and write what one does."""
    texts = tmp_path / "texts.parquet"
    pq.write_table(pa.table({"text": [f"{i} " * i for i in range(30)]}), texts)
    for name, engine in (("one", LocalEngine()), ("two", LocalEngine(2))):
        slow_work.run(str(texts), str(tmp_path / name), str(tmp_path), engine, 0.01)
    files = [sorted((tmp_path / name).glob("*.parquet")) for name in ("one", "two")]
    assert [p.read_bytes() for p in files[0]] == [p.read_bytes() for p in files[1]]
    assert len(files[0]) == 8
    with pytest.raises(ZeroDivisionError):
        [*LocalEngine(2).run(slow_work.divide, [{"by": 1}, {"by": 0}])]
    with pytest.raises(VqasrError, match="a worker process was killed"):
        [*LocalEngine(2).run(slow_work.die, [{}, {}])]
