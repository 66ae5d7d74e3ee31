"""WebDataset shards: tar files in which the files of a sample share a name.

Not datasets' own reader: it decodes audio with torchcodec while it reads.
"""

import json
import os
import tarfile
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from vqasr.data.places import is_of_system, is_url, open_place
from vqasr.errors import AudioError

if TYPE_CHECKING:
    from datasets import Dataset

AUDIO_ENDINGS = ("wav", "flac", "mp3", "ogg", "opus", "m4a", "aac", "webm")


def load_webdataset(shards: list[str]) -> "Dataset":
    """Load shards with the columns key, audio, text (from .txt) and those of .json files.

    Args:
        shards: paths or URLs of tar files.

    Raises:
        AudioError: a shard is no tar file, or the first one holds no audio.
    """
    from datasets import Dataset, Features, Value  # a second; workers read rows alone

    columns: dict[str, Any] = {
        name: Value("string") for name in sample_columns(shards[0]) if name != "audio"
    }
    columns["audio"] = {"bytes": Value("binary"), "path": Value("string")}
    state = [(name, *_version(name)) for name in shards]  # names the cache
    rows: Dataset = Dataset.from_generator(
        _rows, Features(columns), gen_kwargs={"state": state, "columns": tuple(columns)}
    )
    return rows


def sample_columns(shard: str) -> list[str]:
    """Return the columns of a shard's first sample.

    Raises:
        AudioError: it is no tar file, or holds no audio.
    """
    first = next(_samples([shard]), None)
    if first is None:
        raise AudioError(
            f"{shard}: no sample with audio. Its files need names such as 0001.flac and "
            f"0001.txt; audio ends with {', '.join(AUDIO_ENDINGS)}."
        )
    return list(first)


def tar_rows(shard: str, count: int) -> Iterator[list[dict[str, Any]]]:
    """Yield the samples of a shard, `count` at a time; those before a damage, then the error.

    Raises:
        AudioError: it is no tar file, or damaged.
    """
    rows: list[dict[str, Any]] = []
    try:
        for sample in _samples([shard]):
            rows.append(sample)
            if len(rows) == count:
                yield rows
                rows = []
    except AudioError:
        yield rows
        raise
    yield rows


def _version(shard: str) -> tuple[int, int]:
    if is_url(shard):
        return 0, 0
    state = os.stat(shard)
    return state.st_mtime_ns, state.st_size


def _rows(state: list[tuple[str, int, int]], columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    for sample in _samples([path for path, _, _ in state]):
        yield {name: sample.get(name) for name in columns}


def _samples(paths: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the samples that have audio: neighbouring files of one name up to the first dot."""
    for path in paths:
        sample: dict[str, Any] = {}
        try:
            # "r|*" reads a stream: nothing is kept and nothing is read twice.
            with open_place(path) as file, tarfile.open(fileobj=file, mode="r|*") as tar:
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
                    content = tar.extractfile(member)
                    # For the type checker: members that are no files have none.
                    assert content is not None
                    _add(sample, ending.lower(), content.read(), member.name)
        except (tarfile.TarError, OSError, EOFError, ValueError, zlib.error) as error:
            if is_of_system(error):
                raise
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
