"""Find the files of a data set by path, URL, pattern, folder or hub id, and open them.

URLs (s3://bucket/x.parquet, https://..., hf://datasets/...) go through fsspec and need the package
of their protocol, as s3fs.
"""

import glob
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import fsspec

from vqasr.errors import AudioError, PlaceError, VqasrError

ACCEPTED = (
    "parquet files, a folder of them or a pattern, each also as a URL; a folder of audio files, "
    "with or without metadata.csv (file_name,text); WebDataset tar files; or a data set on the hub"
)
SUFFIXES = (".parquet", ".tar")
METADATA = ("metadata.csv", "metadata.jsonl")


def is_url(place: str | os.PathLike[str]) -> bool:
    """Tell whether a place is a URL, not a path."""
    return "://" in str(place)


def is_hub_id(source: str) -> bool:
    """Tell whether a name is that of a data set on the hub: "user/name", and no folder "user"."""
    path = Path(source)
    return not (
        is_url(source) or path.exists() or path.parent.is_dir() or glob.has_magic(source)
        or path.suffix in SUFFIXES or "/" not in source or source.startswith((".", "/", "~"))
    )  # fmt: skip


def find_files(source: str, split: str | None = None) -> list[str]:
    """Return the parquet or tar files of a data set, sorted by name.

    Args:
        source: file, folder, pattern or URL of these, or a hub id.
        split: in a folder of files, prefix of their names; of a hub data set, "test" if None.

    Returns:
        The files, or [source] for a local folder without such files.

    Raises:
        AudioError: nothing is there.
    """
    if is_hub_id(source):
        files = _files_on_hub(source, split or "test")
    elif is_url(source):
        files = _found_by_url(source, split)
    elif Path(source).is_dir():
        files = _matching(map(str, Path(source).iterdir()), split) or [source]
    elif os.path.isfile(source):
        files = [source]
    elif glob.has_magic(source):
        files = sorted(glob.glob(source, recursive=True))
    else:
        raise AudioError(f"{source}: no such file or folder, and no hub id. Use {ACCEPTED}.")
    if not files:
        raise AudioError(f"{source}: no file has such a name.")
    kinds = {Path(name).suffix for name in files}
    if (len(kinds) > 1 or not kinds <= set(SUFFIXES)) and not Path(source).is_dir():
        raise AudioError(f"{files[0]}: files {sorted(kinds)} are no data set. Use {ACCEPTED}.")
    return files


def _matching(names: Iterable[str], split: str | None) -> list[str]:
    """Return the parquet files among the names, or else the tar files."""
    names = sorted(name for name in names if Path(name).name.startswith(split or ""))
    by_kind = ([n for n in names if n.endswith(suffix)] for suffix in SUFFIXES)
    return next(filter(None, by_kind), [])


def _found_by_url(source: str, split: str | None) -> list[str]:
    with url_errors(source):
        system, path = fsspec.core.url_to_fs(source)
        if glob.has_magic(source):
            names = system.glob(path)
        elif source.endswith(SUFFIXES):
            return [source]
        else:
            names = _matching(system.ls(path, detail=False), split)
        return sorted(system.unstrip_protocol(name) for name in names)


def _files_on_hub(name: str, split: str) -> list[str]:
    from datasets import load_dataset_builder  # a second; workers have URLs and paths

    try:
        builder = load_dataset_builder(name)
    except Exception as error:  # datasets raises a dozen types
        raise PlaceError(
            f"{name}: cannot be found on the hub ({type(error).__name__}: {error}). Use {ACCEPTED}."
        ) from error
    found = (builder.config.data_files or {}).get(split)
    if not found:
        splits = sorted(builder.config.data_files or {})
        raise AudioError(f"{name}: no split {split!r} with files; the splits are {splits}.")
    return sorted(map(str, found))


@contextmanager
def url_errors(url: str) -> Iterator[None]:
    """Turn the many errors of fsspec's file systems into a PlaceError that names the URL."""
    try:
        yield
    except VqasrError:
        raise
    except Exception as error:
        raise PlaceError(f"{url}: cannot be reached ({type(error).__name__}: {error}).") from error


def is_of_system(error: Exception) -> bool:
    """Tell whether an OSError comes from the system, not from a library that met damaged data."""
    return isinstance(error, OSError) and error.errno is not None


@contextmanager
def open_place(place: str) -> Iterator[BinaryIO]:
    """Open a file or URL to read bytes; raise OSError or PlaceError if it cannot be opened."""
    if not is_url(place):
        with open(place, "rb") as file:
            yield file
        return
    with url_errors(place):
        opened = fsspec.open(place, "rb").open()
    with opened as file:
        yield file
