"""Speech data sets from folders of audio files."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from datasets import Audio, Dataset

from vqasr.assets import CLIPS
from vqasr.audio.files import read_audio
from vqasr.data.speech import data_fingerprint, load_speech, row_audio
from vqasr.errors import AudioError
from vqasr.evaluation.run import read_utterances

NAMES = ["clip01_af_heart.flac", "clip02_am_michael.flac"]


def audiofolder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in NAMES:
        shutil.copy(CLIPS / name, folder / name)
    lines = ["file_name,text", *(f'{name},"text, {i}"' for i, name in enumerate(NAMES))]
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_a_folder_with_metadata(tmp_path) -> None:
    data = load_speech(audiofolder(tmp_path / "own"), "validation")  # a single split is used
    assert data["text"] == ["text, 0", "text, 1"]
    for row, name in zip(data, NAMES, strict=True):
        np.testing.assert_array_equal(row_audio(row), read_audio(CLIPS / name))
    again = load_speech(audiofolder(tmp_path / "elsewhere"))
    assert data_fingerprint(again) == data_fingerprint(data)


def test_a_folder_with_splits(tmp_path) -> None:
    for split in ("train", "test"):
        audiofolder(tmp_path / split)
    assert len(load_speech(tmp_path, "train")) == 2
    with pytest.raises(AudioError, match="no split 'dev'; the splits are"):
        load_speech(tmp_path, "dev")


def test_a_folder_without_speech(tmp_path) -> None:
    with pytest.raises(AudioError, match=r"neither metadata.csv nor metadata.jsonl"):
        load_speech(tmp_path)


def test_metadata_without_file_names(tmp_path) -> None:
    metadata = audiofolder(tmp_path / "own") / "metadata.csv"
    metadata.write_text(metadata.read_text().replace("file_name,", "path,"))
    with pytest.raises(AudioError, match=r"\['path', 'text'\]: rename the column .* to file_name"):
        load_speech(tmp_path / "own")


SAMPLES = [
    (0.1 * np.random.default_rng(i).standard_normal(3000)).astype(np.float32) for i in (1, 2)
]


def encoded(samples: np.ndarray, form: str = "FLAC", rate_hz: int = 16_000) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, format=form)
    return buffer.getvalue()


def shard(path: Path, names: list[str], extra: dict[str, bytes] | None = None) -> Path:
    files = {}
    for name, samples in zip(names, SAMPLES, strict=True):
        files |= {f"{name}.flac": encoded(samples), f"{name}.txt": b"text, " + name.encode()}
        files[f"{name}.json"] = json.dumps({"speaker": name, "age": 7}).encode()
    with tarfile.open(path, "w") as tar:
        for name, data in (files | (extra or {})).items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


AUDIO_COLUMNS = {
    "floats": [s.tolist() for s in SAMPLES],
    "arrays with a rate": [{"array": s.tolist(), "sampling_rate": 16_000} for s in SAMPLES],
    "bytes": [{"bytes": encoded(s, "WAV"), "path": None} for s in SAMPLES],
    "plain bytes": [encoded(s, "WAV") for s in SAMPLES],
}


@pytest.mark.parametrize("kind", AUDIO_COLUMNS)
def test_every_kind_of_audio_column(kind, tmp_path) -> None:
    columns = {"audio": AUDIO_COLUMNS[kind], "text": ["one", "two"]}
    Dataset.from_dict(columns).to_parquet(tmp_path / "own.parquet")
    data = load_speech(tmp_path / "own.parquet")
    for row, samples in zip(data, SAMPLES, strict=True):
        np.testing.assert_allclose(row_audio(row), samples, atol=1e-4)
    assert len(data_fingerprint(data)) == 12
    assert data_fingerprint(data) == data_fingerprint(load_speech(str(tmp_path / "*.parquet")))


def test_files_state_their_own_rate() -> None:
    path = str(CLIPS / "clip01_af_heart.flac")
    expected = read_audio(path)
    for audio in (path, (CLIPS / "clip01_af_heart.flac").read_bytes(), {"path": path}):
        row = {"audio": audio, "sampling_rate": 48_000}  # of something else
        np.testing.assert_array_equal(row_audio(row), expected)


def test_floats_at_another_rate(tmp_path) -> None:
    columns = {"audio": [s.tolist() for s in SAMPLES], "sampling_rate": [8_000, 48_000]}
    Dataset.from_dict(columns).to_parquet(tmp_path / "own.parquet")
    rows = load_speech(tmp_path)
    assert [len(row_audio(row)) for row in rows] == [6000, 1000]


def test_paths_and_the_hubs_audio(tmp_path) -> None:
    paths = [str(tmp_path / f"{i}.wav") for i in range(2)]
    for path, samples in zip(paths, SAMPLES, strict=True):
        soundfile.write(path, samples, 16_000, subtype="FLOAT")
    for data in (
        Dataset.from_dict({"audio": paths}),
        Dataset.from_dict({"audio": paths}).cast_column("audio", Audio(decode=False)),
    ):
        data.to_parquet(tmp_path / "own.parquet")
        for row, samples in zip(load_speech(tmp_path / "own.parquet"), SAMPLES, strict=True):
            np.testing.assert_allclose(row_audio(row), samples, atol=1e-6)


def test_webdataset(tmp_path) -> None:
    shard(tmp_path / "a-000.tar", ["x/1", "x/2"], {"notes.md": b"no sample"})
    shard(tmp_path / "a-001.tar", ["y/1", "y/2"])
    for source in (tmp_path, str(tmp_path / "a-*.tar")):
        data = load_speech(source)
        assert data["key"] == ["x/1", "x/2", "y/1", "y/2"]
        assert data["text"] == [f"text, {key}" for key in data["key"]]
        assert data["speaker"] == data["key"]
        for i, row in enumerate(data):
            np.testing.assert_allclose(row_audio(row), SAMPLES[i % 2], atol=1e-4)
    assert len(load_speech(tmp_path / "a-000.tar")) == 2
    shard(tmp_path / "a-000.tar", ["z/1", "z/2"])  # a new content is not the cached one
    assert load_speech(tmp_path / "a-000.tar")["key"] == ["z/1", "z/2"]


@pytest.mark.parametrize(
    "name", ["no.tar", "no.parquet", "no.txt", "missing.parquet", "./missing", "*.x"]
)
def test_what_is_accepted_is_said(name, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("no.tar", "no.parquet", "no.txt"):
        Path(path).write_bytes(b"nothing of this kind")
    with pytest.raises(AudioError, match=r"audiofolder|WebDataset|no file has"):
        load_speech(name)


def test_rows_without_audio() -> None:
    for audio in (None, {}, {"bytes": None, "path": None}, {"array": [], "sampling_rate": 16_000}):
        with pytest.raises(AudioError, match="no audio"):
            row_audio({"audio": audio})


def test_a_csv_file_is_text(tmp_path) -> None:
    """Texts and ids are as written: null, None and NA are words, 0001 keeps its zeros."""
    folder = audiofolder(tmp_path / "own")
    texts = ["null", "911", "NA", ""]
    rows = [f"{NAMES[0]},{text},{i:04}" for i, text in enumerate(texts)]
    (folder / "metadata.csv").write_text("\n".join(["file_name,text,id", *rows]) + "\n")
    data = load_speech(folder)
    assert data["text"] == texts
    assert data["id"] == ["0000", "0001", "0002", "0003"]
    numbers = data.select_columns(["audio"]).add_column("text", [911, 112, 5, None])
    assert read_utterances(numbers, "text", None)[1] == ["911", "112", "5", ""]


def test_the_only_split_is_not_taken_for_another(tmp_path) -> None:
    audiofolder(tmp_path / "train")
    assert len(load_speech(tmp_path)) == 2
    with pytest.raises(AudioError, match="no split 'test'"):
        load_speech(tmp_path, "test")


def test_the_rate_of_floats_is_part_of_the_data() -> None:
    def fingerprint(rate_hz: int) -> str:
        rows = {"audio": [[0.1, 0.2]], "sampling_rate": [rate_hz]}
        return data_fingerprint(Dataset.from_dict(rows))

    assert fingerprint(8_000) != fingerprint(16_000)
