"""Find input files by name, folder, pattern or list, and name their outputs."""

import glob
from pathlib import Path

from vqasr.errors import VqasrError
from vqasr.files import read_file

SUFFIXES = (".vqs", ".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".au", ".caf")


def find_inputs(names: list[str], with_lists: bool = True) -> list[Path]:
    """Return paths in the order of their names, each once.

    Args:
        names: files; folders, which are searched recursively for `SUFFIXES`; patterns such as
            "talks/**/*.flac"; "@list.txt" for a text file with one of these on each line.
        with_lists: False reads "@list.txt" as the name of a file, as in lists themselves.

    Raises:
        VqasrError: a folder, pattern or list is empty, or a list cannot be read. Named files are
            not checked.
    """
    inputs: list[Path] = []
    for name in names:
        path = Path(name)
        if with_lists and name.startswith("@") and not path.exists():
            paths = find_inputs(_lines(Path(name[1:])), with_lists=False)
        elif path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
            paths = [p for p in files if p.is_file()]
        elif not path.exists() and glob.has_magic(name):
            paths = [Path(p) for p in sorted(glob.glob(name, recursive=True)) if Path(p).is_file()]
        else:
            paths = [path]
        if not paths:
            raise VqasrError(
                f"{name}: no input files. Folders are searched for {', '.join(SUFFIXES)}."
            )
        inputs += paths
    return list(dict.fromkeys(inputs))


def output_paths(inputs: list[Path], folder: Path, suffix: str) -> dict[Path, Path]:
    """Name an output in a folder for each input, and create the folder.

    Raises:
        VqasrError: the folder is a file, or two inputs have the same output.
    """
    if folder.exists() and not folder.is_dir():
        raise VqasrError(f"{folder} is a file: give -o DIR, a folder with a file per input.")
    sources: dict[Path, Path] = {}
    for path in dict.fromkeys(inputs):
        output = folder / f"{path.stem}{suffix}"
        if output in sources:
            raise VqasrError(
                f"{sources[output]} and {path} would both be written to {output}: give them "
                "different output folders, in separate commands."
            )
        sources[output] = path
    folder.mkdir(parents=True, exist_ok=True)
    return {path: output for output, path in sources.items()}


def _lines(path: Path) -> list[str]:
    try:
        text = read_file(path).decode()
    except UnicodeDecodeError as error:
        raise VqasrError(f"{path} is no text file ({error}): put one path on each line.") from error
    return [line.strip() for line in text.splitlines() if line.strip()]
