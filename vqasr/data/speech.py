"""Speech data through `datasets`: parquet files or a hub id, audio as encoded bytes."""

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Audio, Dataset, concatenate_datasets, load_dataset

from vqasr.audio.files import read_audio
from vqasr.errors import AudioError

SPEAKER_COLUMNS = ("speaker", "speaker_id", "client_id")


def load_speech(
    source: str | os.PathLike[str] | Sequence[str], split: str | None = None
) -> Dataset:
    """Open a data set with an `audio` column, without decoding the audio.

    Args:
        source: parquet file(s), a folder of them, or a hub id.
        split: of a hub data set ("test" by default); in a folder, how the files' names begin.

    Returns:
        A `datasets.Dataset`; `row_audio` decodes its rows.

    Raises:
        AudioError: nothing there, or no audio column.
    """
    sources = [source] if isinstance(source, str | os.PathLike) else list(source)
    parts = []
    for item in map(str, sources):
        path = Path(item)
        if path.is_dir():
            files = sorted(map(str, path.glob(f"{split or ''}*.parquet")))
        else:
            files = [item] if item.endswith(".parquet") else []
        if path.is_dir() and not files:
            raise AudioError(f"{item}: the folder holds no {split or ''}*.parquet file.")
        if files and not Path(files[0]).is_file():
            raise AudioError(f"{item}: no such file.")
        try:
            if files:
                parts.append(load_dataset("parquet", data_files=files, split="train"))
            else:
                parts.append(load_dataset(item, split=split or "test"))
        except Exception as error:  # datasets raises a dozen types for "cannot be had"
            raise AudioError(
                f"{item}: cannot be loaded as a data set ({type(error).__name__}: {error}). Name "
                "parquet files, a folder of them, or a data set on the hub."
            ) from error
    try:
        data = concatenate_datasets(_aligned(parts))
    except (ValueError, TypeError) as error:  # no common columns, or types that cannot be cast
        raise AudioError(f"{sources}: cannot be read as one data set ({error}).") from error
    if "audio" not in data.column_names:
        raise AudioError(f"{source}: no column named audio; it has {data.column_names}.")
    if isinstance(data.features["audio"], Audio):
        # datasets would decode with torchcodec; soundfile reads the same bytes without FFmpeg.
        data = data.cast_column("audio", Audio(decode=False))
    return data


def _aligned(parts: list[Dataset]) -> list[Dataset]:
    """Reduce data sets to the columns that all have, in the types of the first."""
    shared = [c for c in parts[0].column_names if all(c in p.column_names for p in parts)]
    parts = [part.select_columns(shared) for part in parts]
    wanted = parts[0].features
    return [part if part.features == wanted else part.cast(wanted) for part in parts]


def row_audio(row: dict[str, Any]) -> np.ndarray:
    """(samples,) float32 at 16 kHz of one row; raises AudioError when it cannot be decoded."""
    audio = row["audio"] or {}
    if audio.get("bytes"):
        return read_audio(audio["bytes"])
    if not audio.get("path"):
        raise AudioError("the row has neither bytes nor a path of its audio.")
    return read_audio(audio["path"])


def data_fingerprint(data: Dataset) -> str:
    """Names the rows' audio and their order: 12 digits, the same on every machine.

    (A data set's own fingerprint also depends on when and where it was put into a cache.)
    """
    digest = hashlib.sha256()
    for audio in data["audio"]:
        piece = (audio or {}).get("bytes") or str((audio or {}).get("path")).encode()
        digest.update(len(piece).to_bytes(8, "little") + piece)
    return digest.hexdigest()[:12]


def speakers_of(data: Dataset) -> list[Any] | None:
    """Who spoke each row, from the column that LibriSpeech, Common Voice and others have."""
    for column in SPEAKER_COLUMNS:
        if column in data.column_names:
            return list(data[column])
    return None


def set_name(source: str) -> str:
    """A short name of a data set: "a/test_libri-00000-of-00001.parquet" -> "test_libri"."""
    return re.sub(r"-\d{5}-of-\d{5}$", "", Path(source).name.removesuffix(".parquet"))
