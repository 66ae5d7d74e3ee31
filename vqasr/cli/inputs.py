"""Files to work on, from what a user names: files, folders, patterns, lists."""

import glob
from pathlib import Path

from vqasr.errors import VqasrError
from vqasr.files import read_file

SUFFIXES = (".vqs", ".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".au", ".caf")


def find_inputs(names: list[str]) -> list[Path]:
    """Paths in the order they were named, each once.

    Args:
        names: files; folders (all recordings and streams below, by suffix, sorted); patterns such
            as "talks/**/*.flac"; "@list.txt" for a text file with one of these on each line (but
            for lists: there, @ is the beginning of a file's name).

    Raises:
        VqasrError: a folder, pattern or list holds nothing, or a list cannot be read. That a named
            file exists is left to whoever reads it.
    """
    return _find(names, with_lists=True)


def _find(names: list[str], with_lists: bool) -> list[Path]:
    found: list[Path] = []
    for name in names:
        path = Path(name)
        if with_lists and name.startswith("@") and not path.exists():
            more = _find(_lines(Path(name[1:])), with_lists=False)
        elif path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
            more = [p for p in files if p.is_file()]
        elif not path.exists() and glob.has_magic(name):
            more = [Path(p) for p in sorted(glob.glob(name, recursive=True)) if Path(p).is_file()]
        else:
            more = [path]
        if not more:
            raise VqasrError(
                f"{name}: nothing to work on there. Folders are searched for {', '.join(SUFFIXES)}."
            )
        found += more
    return list(dict.fromkeys(found))


def _lines(path: Path) -> list[str]:
    try:
        text = read_file(path).decode()
    except UnicodeDecodeError as error:
        raise VqasrError(f"{path}: no text ({error}); a list has one path on each line.") from error
    return [line.strip() for line in text.splitlines() if line.strip()]
