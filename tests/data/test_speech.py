"""Speech data sets from folders of audio files."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from vqasr.assets import CLIPS
from vqasr.audio.files import read_audio
from vqasr.data.speech import data_fingerprint, load_speech, row_audio
from vqasr.errors import AudioError

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
