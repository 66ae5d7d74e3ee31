"""WebDataset shards: tar files in which the files of a sample share a name.

Not datasets' own reader: it decodes audio with torchcodec while it reads.
"""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset, Features, Value

from vqasr.errors import AudioError

AUDIO_ENDINGS = ("wav", "flac", "mp3", "ogg", "opus", "m4a", "aac", "webm")


def load_webdataset(shards: list[Path]) -> Dataset:
    """Load shards with the columns key, audio, text (from .txt) and those of .json files.

    Raises:
        AudioError: a shard is no tar file, or holds no audio.
    """
    first = next(_samples([str(shards[0])]), None)
    if first is None:
        raise AudioError(
            f"{shards[0]}: no sample with audio. Its files need names such as 0001.flac and "
            f"0001.txt; audio ends with {', '.join(AUDIO_ENDINGS)}."
        )
    columns: dict[str, Any] = {name: Value("string") for name in first if name != "audio"}
    columns["audio"] = {"bytes": Value("binary"), "path": Value("string")}
    state = [(str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in shards]  # names the cache
    rows: Dataset = Dataset.from_generator(
        _rows, Features(columns), gen_kwargs={"state": state, "columns": tuple(columns)}
    )
    return rows


def _rows(state: list[tuple[str, int, int]], columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for sample in _samples([path for path, _, _ in state]):
        yield {name: sample.get(name) for name in columns}


def _samples(paths: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the samples that have audio: neighbouring files of one name up to the first dot."""
    for path in paths:
        sample: dict[str, Any] = {}
        try:
            with tarfile.open(path) as tar:
                for member in tar:
                    if not member.isfile():
                        continue
                    folder, _, name = member.name.rpartition("/")
                    stem, _, ending = name.partition(".")
                    key = f"{folder}/{stem}".lstrip("/")
                    if sample.get("key") != key:
                        if "audio" in sample:
                            yield sample
                        sample = {"key": key}
                    file = tar.extractfile(member)
                    assert (
                        file is not None
                    )  # for the type checker; members that are no files have none
                    _add(sample, ending.lower(), file.read(), member.name)
        except (tarfile.TarError, OSError, ValueError) as error:
            raise AudioError(f"{path}: cannot be read as a WebDataset shard ({error}).") from error
        if "audio" in sample:
            yield sample


def _add(sample: dict[str, Any], ending: str, data: bytes, name: str) -> None:
    if ending in AUDIO_ENDINGS:
        sample.setdefault("audio", {"bytes": data, "path": name})
    elif ending == "txt":
        sample["text"] = data.decode("utf-8-sig").strip()
    elif ending == "json":
        fields = json.loads(data)
        if isinstance(fields, dict):
            for field, value in fields.items():
                if field not in ("key", "audio"):
                    sample.setdefault(field, value if isinstance(value, str) else json.dumps(value))
