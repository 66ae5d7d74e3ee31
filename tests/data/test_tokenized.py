"""Data sets of codes: made once, resumed, checked, and batched for training."""

import json
import tarfile
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from typer.testing import CliRunner

from vqasr.assets import CLIPS
from vqasr.audio.files import read_audio
from vqasr.cli.commands import app
from vqasr.compression.compress import compress, encode_audio
from vqasr.data.tokenized import (
    TokenizeConfig,
    load_tokenized,
    row_codes,
    stream_tokenized,
    tokenize,
)
from vqasr.errors import CodecMismatchError, VqasrError
from vqasr.training.collator import CodesCollator

NAMES = ["clip01_af_heart.flac", "clip02_am_michael.flac", "clip03_bf_emma.flac"]


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> str:
    rows = [
        {"id": f"r{i}", "text": f"text {i}", "audio": {"bytes": (CLIPS / n).read_bytes()}}
        for i, n in enumerate(NAMES)
    ]
    path = tmp_path_factory.mktemp("speech") / "speech.parquet"
    Dataset.from_list(rows).to_parquet(path)
    return str(path)


def test_codes_are_those_of_the_audio(data, codec, tmp_path) -> None:
    seen = []
    config = TokenizeConfig((data,), num_quantizers=2, speeds=(1.0, 1.1))
    assert tokenize(config, tmp_path, 2, advance=lambda *x: seen.append(x)) == []
    assert seen == [(0, 2), (1, 2), (2, 2)]
    rows = load_tokenized(tmp_path, codec.fingerprint())
    assert rows.column_names == ["id", "text", "codes", "samples", "speed"]
    assert rows["id"][:] == ["r0", "r0", "r1", "r1", "r2", "r2"]
    for name, row in zip(NAMES, rows.select([0, 2, 4]), strict=True):
        samples = read_audio(CLIPS / name)
        np.testing.assert_array_equal(row["codes"], encode_audio(codec, samples, 2))
        assert row["samples"] == len(samples)
    assert rows[1]["samples"] == round(rows[0]["samples"] / 1.1)


def test_streams_are_whole(data, codec, tmp_path) -> None:
    tokenize(TokenizeConfig((data,), num_quantizers=1, column="vqs"), tmp_path)
    rows = load_tokenized(tmp_path)
    assert (
        rows[0]["vqs"]
        == compress(read_audio(CLIPS / NAMES[0]), codec=codec, num_quantizers=1).to_bytes()
    )


def test_streams_with_pitch(data, codec, tmp_path) -> None:
    config = TokenizeConfig((data,), num_quantizers=1, column="vqs", pitch=True)
    tokenize(config, tmp_path)
    row = load_tokenized(tmp_path)[0]
    whole = compress(CLIPS / NAMES[0], codec=codec, num_quantizers=1, pitch=True)
    assert row["vqs"] == whole.to_bytes()
    np.testing.assert_array_equal(row_codes(row), whole.codes)  # training does without it
    with pytest.raises(VqasrError, match="use the column vqs"):
        tokenize(replace(config, column="codes"), tmp_path / "codes")


def test_webdataset(data, codec, tmp_path) -> None:
    config = TokenizeConfig((data,), num_quantizers=1, column="vqs", form="webdataset")
    for folder in ("once", "again"):
        tokenize(config, tmp_path / folder, 2)
    tars = sorted((tmp_path / "once").glob("*.tar"))
    assert [path.read_bytes() for path in tars] == [
        path.read_bytes() for path in sorted((tmp_path / "again").glob("*.tar"))
    ]
    with tarfile.open(tars[0]) as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar}
    assert [*files] == [f"00000-{i:06d}-r{i}.{s}" for i in (0, 1) for s in ("vqs", "txt", "json")]
    assert files["00000-000001-r1.txt"] == b"text 1"
    expected = compress(read_audio(CLIPS / NAMES[0]), codec=codec, num_quantizers=1)
    assert files["00000-000000-r0.vqs"] == expected.to_bytes()
    about = json.loads(files["00000-000000-r0.json"])
    assert about["samples"] == expected.samples
    assert about["id"] == "r0"
    assert about["vqasr"]["codec"] == codec.fingerprint().hex()
    with pytest.raises(VqasrError, match="must be parquet or webdataset"):
        tokenize(TokenizeConfig((data,), form="csv"), tmp_path / "other")


def test_an_interrupted_run_goes_on(data, codec, tmp_path) -> None:
    config = TokenizeConfig((data,), num_quantizers=1)

    def interrupt(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tokenize(config, tmp_path, 1, advance=interrupt)
    with pytest.raises(VqasrError, match="1 of 3 files"):
        load_tokenized(tmp_path)
    (first,) = tmp_path.glob("*.parquet")
    before = first.stat().st_mtime_ns
    tokenize(config, tmp_path, 1)
    assert first.stat().st_mtime_ns == before
    assert len(load_tokenized(tmp_path)) == 3
    with pytest.raises(VqasrError, match="num_quantizers differ"):
        tokenize(TokenizeConfig((data,), num_quantizers=2), tmp_path, 1)


def test_the_command_leaves_out_what_is_broken(data, codec, tmp_path) -> None:
    rows = list(Dataset.from_parquet(data))
    rows[1]["audio"] = {"bytes": b"no audio"}
    Dataset.from_list(rows).to_parquet(tmp_path / "broken.parquet")
    arguments = ["tokenize", str(tmp_path / "broken.parquet"), "-n", "1", "--shard-rows", "1"]
    for _ in range(2):  # a run that has nothing left to do says it too
        result = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "codes")])
        assert "left out: broken.parquet, row 1" in result.stdout
        assert "1 recordings were left out" in str(result.exception)
    found = load_tokenized(tmp_path / "codes", codec.fingerprint())
    assert found["id"][:] == ["r0", "r2"]
    for row, name in zip(found, NAMES[::2], strict=True):
        np.testing.assert_array_equal(
            row["codes"], encode_audio(codec, read_audio(CLIPS / name), 1)
        )


def test_streams_are_the_same_codes_to_train_on(data, recogniser, tmp_path) -> None:
    batches = []
    for column in ("codes", "vqs"):
        tokenize(TokenizeConfig((data,), num_quantizers=2, column=column), tmp_path / column)
        rows = list(load_tokenized(tmp_path / column))
        collate = CodesCollator(recogniser.whisper.tokenizer, False, (2,))
        batches.append(collate(rows)["input_values"])
    assert torch.equal(*batches)


def test_a_recording_that_is_null_and_a_column_that_is_taken(data, tmp_path) -> None:
    rows = list(Dataset.from_parquet(data))
    rows[1]["audio"] = None
    Dataset.from_list(rows).to_parquet(tmp_path / "null.parquet")
    config = TokenizeConfig((str(tmp_path / "null.parquet"),), num_quantizers=1)
    assert tokenize(config, tmp_path / "codes")[0].startswith("null.parquet, row 1: ")
    assert len(load_tokenized(tmp_path / "codes")) == 2
    Dataset.from_list([row | {"speed": 1.0} for row in rows]).to_parquet(tmp_path / "speed.parquet")
    with pytest.raises(VqasrError, match=r"\['speed'\], which would be"):
        tokenize(TokenizeConfig((str(tmp_path / "speed.parquet"),)), tmp_path / "other")


def test_a_stream_of_codes(data, tmp_path, monkeypatch) -> None:
    # datasets sleeps 5 s at the end of each epoch, for threads of Arrow.
    monkeypatch.setattr("datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN", 0.1)
    for name, n in (("one", 1), ("two", 2)):
        tokenize(TokenizeConfig((data,), num_quantizers=n, speeds=(1.0, 1.1)), tmp_path / name, 1)
    folders = [tmp_path / "one", tmp_path / "two"]
    rows = stream_tokenized(folders, buffer_rows=5, batch_size=4, seed=3)
    epochs = []
    for epoch in (0, 1):
        rows.set_epoch(epoch)
        seen = [(row["id"], row["samples"], len(row["codes"])) for row in rows]
        assert len(set(seen)) == len(seen) == 12
        # All are in one group, whose batches are sorted by length.
        batches = [[samples for _, samples, _ in seen[i : i + 4]] for i in (0, 4, 8)]
        assert all(batch == sorted(batch) for batch in batches)
        assert batches[-1][-1] == max(samples for _, samples, _ in seen)
        epochs.append(seen)
    assert epochs[0] != epochs[1]
    rows.set_epoch(0)
    assert [(row["id"], row["samples"], len(row["codes"])) for row in rows] == epochs[0]
    (tmp_path / "one" / "codes-00001-of-00003.parquet").unlink()
    with pytest.raises(VqasrError, match="2 of 3 files"):
        stream_tokenized(folders)


def test_codes_of_another_codec_are_refused(data, codec, tmp_path) -> None:
    with pytest.raises(VqasrError, match="holds no codes"):
        load_tokenized(tmp_path)
    with pytest.raises(VqasrError, match=r"speech\.parquet is no file of `vqasr tokenize`"):
        load_tokenized(data)
    tokenize(TokenizeConfig((data,), num_quantizers=1), tmp_path)
    with pytest.raises(CodecMismatchError) as error:
        load_tokenized(tmp_path, b"others")
    assert codec.fingerprint().hex() in str(error.value)
    assert b"others".hex() in str(error.value)
    about = json.loads(pq.read_schema(next(tmp_path.glob("*.parquet"))).metadata[b"vqasr"])
    assert about == {"codec": codec.fingerprint().hex(), "hop_length": 640}
    for bad in ({"column": "mel"}, {"speeds": (9.0,)}, {"num_quantizers": 99}):
        with pytest.raises(VqasrError):
            tokenize(TokenizeConfig((data,), **bad), tmp_path / "bad")


def test_batches(recogniser) -> None:
    rows = [
        {"codes": np.arange(4 * 70).reshape(4, 70), "text": "Hello there."},
        {"codes": np.arange(4 * 30).reshape(4, 30), "text": "No."},
    ]
    tokenizer = recogniser.whisper.tokenizer
    torch.manual_seed(0)
    collate = CodesCollator(tokenizer, False, (1, 2, 4), mask_spans=2)
    seen, gaps = set(), 0
    for _ in range(30):
        batch = collate(rows)
        values, mask = batch["input_values"], batch["attention_mask"]
        seen.add(values.shape[2])
        assert values.shape[:2] == mask.shape == (2, 80)
        assert mask.sum(1).tolist() == [70, 30]
        assert (values[mask == 0] == -1).all()
        lost = values[..., 0] == -2
        gaps += int(lost.any())
        assert int(lost.sum(1).max()) <= 24
        kept = (mask == 1) & ~lost
        expected = torch.arange(80).expand(2, 80)[kept]
        assert torch.equal(values[..., 0][kept], expected)
    assert seen == {1, 2, 4}
    assert 5 < gaps < 30
    assert row_codes(rows[0]).shape == (4, 70)
    with pytest.raises(VqasrError, match="neither codes nor vqs"):
        row_codes({"text": "Hello."})
    whisper = CodesCollator(tokenizer, True, (4,))(rows)
    assert whisper["input_features"].shape == (2, 4, 3000)
    text = tokenizer.batch_decode(whisper["labels"].clamp_min(0), skip_special_tokens=True)
    assert text[0].strip() == "Hello there."
    assert (whisper["labels"][1] == -100).any()
    start = tokenizer.convert_tokens_to_ids("<|startoftranscript|>")
    assert start not in whisper["labels"]
