"""Speech data sets from parquet files, folders, tar files or the hub, with undecoded audio."""

import hashlib
import os
import re
from collections.abc import Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Audio, Dataset, concatenate_datasets, load_dataset

from vqasr.audio.sources import load_audio
from vqasr.data.places import ACCEPTED, METADATA, find_files, is_hub_id
from vqasr.data.webdataset import AUDIO_ENDINGS, load_webdataset
from vqasr.errors import AudioError

ENCODED = ("bytes", "array", "path")  # fields of a row's audio, of which one is enough
SPEAKER_COLUMNS = ("speaker", "speaker_id", "client_id")


def load_speech(
    source: str | os.PathLike[str] | Sequence[str], split: str | None = None
) -> Dataset:
    """Load a data set with an `audio` column, without decoding the audio.

    Args:
        source: parquet or WebDataset tar file, a folder or pattern of them, or their URL (through
            fsspec); a folder in the hub's `audiofolder` layout (audio files and a metadata.csv or
            metadata.jsonl with file_name, text, ...), or one of audio files alone, whose paths
            become the column id; or a hub id; or a list of these.
        split: of a hub data set ("test" by default) or an audiofolder with several splits; in a
            folder of parquet files, prefix of their names.

    Returns:
        A `datasets.Dataset`; `row_audio` decodes its rows. The column audio holds what the hub's
        data sets do (bytes or path), {"array", "sampling_rate"}, or samples as lists of floats,
        with a column sampling_rate unless that is 16,000.

    Raises:
        AudioError: the source cannot be loaded, or has no audio column.
    """
    sources = [source] if isinstance(source, str | os.PathLike) else list(source)
    parts = []
    for item in map(str, sources):
        try:
            parts.append(_load(item, split))
        except AudioError:
            raise
        except Exception as error:  # datasets raises a dozen types
            absent = "there is no such folder, and it " if is_hub_id(item) else ""
            raise AudioError(
                f"{item}: {absent}cannot be loaded as a data set ({type(error).__name__}: {error})."
                f" Use {ACCEPTED}."
            ) from error
    try:
        shared = [c for c in parts[0].column_names if all(c in p.column_names for p in parts)]
        parts = [part.select_columns(shared) for part in parts]
        features = parts[0].features
        parts = [part if part.features == features else part.cast(features) for part in parts]
        data = concatenate_datasets(parts)
    except (ValueError, TypeError) as error:  # no common columns, or types that cannot be cast
        raise AudioError(f"{sources}: cannot be read as one data set ({error}).") from error
    if "audio" not in data.column_names:
        raise AudioError(
            f"{source}: no column named audio; the columns are {data.column_names}. It should hold "
            "bytes or a path, array and sampling_rate, or floats."
        )
    if isinstance(data.features["audio"], Audio):
        # datasets would decode with torchcodec; soundfile reads the same bytes without FFmpeg.
        data = data.cast_column("audio", Audio(decode=False))
    return data


def _load(source: str, split: str | None) -> Dataset:
    if is_hub_id(source):
        return load_dataset(source, split=split or "test")
    files = find_files(source, split)
    if Path(source).is_dir() and files == [source]:
        return _load_audiofolder(Path(source), split)
    if files[0].endswith(".tar"):
        return load_webdataset(files)
    return load_dataset("parquet", data_files=files, split="train")


def _load_audiofolder(folder: Path, split: str | None) -> Dataset:
    # Not load_dataset("audiofolder"): it needs torchcodec even where nothing is decoded.
    places = {".": folder} | {p.name: p for p in sorted(folder.iterdir()) if p.is_dir()}
    splits = {
        name: path
        for name, place in places.items()
        for path in (place / file for file in METADATA)
        if path.is_file()
    }
    if not splits:
        sounds = [p for p in sorted(folder.rglob("*")) if p.suffix[1:].lower() in AUDIO_ENDINGS]
        if sounds:
            columns = {
                "id": [str(path.relative_to(folder)) for path in sounds],
                "audio": [str(path) for path in sounds],
            }
            return Dataset.from_dict(columns).cast_column("audio", Audio(decode=False))
        raise AudioError(
            f"{folder}: the folder holds no {split or ''}*.parquet file, no audio files, and "
            "neither metadata.csv nor metadata.jsonl."
        )
    name = split if split in splits else "." if "." in splits else split
    if len(splits) == 1 and split is None:
        name = next(iter(splits))
    if name not in splits:
        raise AudioError(f"{folder}: no split {split!r}; the splits are {sorted(splits)}.")
    path = splits[name]
    if path.suffix == ".csv":
        # As they are written: 0001 stays 0001, and the text "null" a text.
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        data = Dataset.from_pandas(table, preserve_index=False)
    else:
        data = load_dataset("json", data_files=[str(path)], split="train")
    if "file_name" not in data.column_names:
        raise AudioError(
            f"{path}: no column file_name; the columns are {data.column_names}: rename the column "
            "with the names of the audio files to file_name."
        )
    audio = [str(path.parent / file_name) for file_name in data["file_name"]]
    return (
        data.remove_columns("file_name")
        .add_column("audio", audio)
        .cast_column("audio", Audio(decode=False))
    )


def row_audio(row: dict[str, Any]) -> np.ndarray:
    """Decode a row to (samples,) float32 at 16 kHz; raise AudioError if that fails."""
    audio = row["audio"]
    fields = map(audio.get, ENCODED) if isinstance(audio, dict) else [audio]
    if not any(map(_is_given, fields)):
        raise AudioError("the row has no audio: neither bytes, path nor array.")
    is_file = isinstance(audio, str | os.PathLike | bytes | bytearray | memoryview)
    return load_audio(audio, None if is_file else row.get("sampling_rate"))


def _is_given(value: Any) -> bool:
    return value is not None and (not hasattr(value, "__len__") or len(value) > 0)


def data_fingerprint(data: Dataset) -> str:
    """Hash the rows' audio and order to 12 hex digits, the same on every machine.

    (A data set's own fingerprint also depends on when and where it was cached.)
    """
    digest = hashlib.sha256()
    rates = data["sampling_rate"] if "sampling_rate" in data.column_names else repeat(None)
    for audio, rate_hz in zip(data["audio"], rates, strict=False):
        piece = _encoded(audio, rate_hz)
        digest.update(len(piece).to_bytes(8, "little") + piece)
    return digest.hexdigest()[:12]


def _encoded(audio: Any, rate_hz: int | None) -> bytes:
    """Return the bytes of a row's audio, before decoding; of floats with their rate."""
    if isinstance(audio, dict):
        rate_hz = audio.get("sampling_rate") or rate_hz
        audio = next(filter(_is_given, map(audio.get, ENCODED)), b"")
    if isinstance(audio, str):
        return Path(audio).read_bytes() if os.path.isfile(audio) else audio.encode()
    if audio is None or isinstance(audio, bytes):
        return audio or b""
    own = b"" if rate_hz is None else str(rate_hz).encode()
    return np.asarray(audio, np.float32).tobytes() + own


def speakers_of(data: Dataset) -> list[Any] | None:
    """Return each row's speaker, from the column of LibriSpeech, Common Voice and others."""
    columns = (column for column in SPEAKER_COLUMNS if column in data.column_names)
    return next((list(data[column]) for column in columns), None)


def set_name(source: str) -> str:
    """Shorten a data set's name: "a/test_libri-00000-of-00001.parquet" -> "test_libri"."""
    return re.sub(r"-\d{5}-of-\d{5}$", "", Path(source).name.removesuffix(".parquet"))
