"""Find input files by name, folder, pattern or list, and name their outputs."""

import codecs
import glob
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from vqasr.errors import VqasrError
from vqasr.files import Begun, read_file

STANDARD = "-"  # instead of a path: standard input or output
STREAMS = (".vqs",)
AUDIO = (
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".au", ".caf", ".w64",
    ".rf64", ".m4a", ".mp4", ".aac", ".webm", ".mka", ".wma", ".amr",
)  # fmt: skip
# Lists of Windows editors begin with one of these.
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def find_inputs(
    names: list[str],
    suffixes: tuple[str, ...] = STREAMS + AUDIO,
    *,
    repeated: bool = False,
) -> list[Path]:
    """Return paths in the order of their names.

    Args:
        names: files; "-" for standard input; folders, which are searched recursively; patterns
            such as "talks/**/*.flac"; "@list.txt" for a text file with one of these on each line.
        suffixes: of the files to take from folders.
        repeated: keep paths that are named again; else each counts once.

    Raises:
        VqasrError: a folder, pattern or list is empty, a list cannot be read, or the only file does
            not exist. Of several files, missing ones are left to be reported beside the others.
    """
    inputs: list[Path] = []
    for name in expand_lists(names):
        path = Path(name)
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.suffix.lower() in suffixes)
            paths = [p for p in files if p.is_file()]
        elif not path.exists() and glob.has_magic(name):
            paths = [Path(p) for p in sorted(glob.glob(name, recursive=True)) if Path(p).is_file()]
        else:
            paths = [path]
        if not paths:
            raise VqasrError(
                f"{name}: no input files. Folders are searched for {', '.join(suffixes)}."
            )
        inputs += paths
    if len(inputs) == 1 and str(inputs[0]) != STANDARD and not inputs[0].exists():
        raise VqasrError(f"{inputs[0]}: No such file or directory.")  # before any model is loaded
    if repeated:
        return inputs
    once: dict[str, Path] = {}
    for path in inputs:
        once.setdefault(os.path.abspath(path), path)
    return list(once.values())


def expand_lists(names: list[str]) -> list[str]:
    """Replace "@list.txt" by the names on its lines.

    Raises:
        VqasrError: a list cannot be read or is empty.
    """
    expanded: list[str] = []
    for name in names:
        is_list = name.startswith("@") and not Path(name).exists()
        expanded += _lines(Path(name[1:])) if is_list else [name]
    return expanded


def output_paths(
    inputs: list[Path], folder: Path, suffix: str, names: list[str]
) -> dict[Path, Path]:
    """Name an output in a folder for each input.

    What was found in a folder keeps its place below that folder. Inputs that differ in their
    endings alone keep them: talk.wav.vqs.

    Args:
        inputs: that `find_inputs` found.
        folder: of the outputs.
        suffix: of the outputs.
        names: in which `find_inputs` found the inputs, after `expand_lists`.

    Raises:
        VqasrError: the folder is a file, or two inputs have the same output.
    """
    if folder.exists() and not folder.is_dir():
        raise VqasrError(f"{folder} is a file: give -o DIR, a folder with a file per input.")
    folders = (Path(os.path.abspath(name)) for name in names if Path(name).is_dir())
    roots = sorted(folders, key=lambda root: len(root.parts))  # the outermost first
    places = {path: _place(path, roots) for path in inputs}
    count = Counter(place.with_suffix("") for place in places.values())
    sources: dict[Path, Path] = {}
    for path, place in places.items():
        name = place.name if count[place.with_suffix("")] > 1 else place.stem
        output = folder / place.with_name(f"{name}{suffix}")
        if output in sources:
            raise VqasrError(
                f"{sources[output]} and {path} would both be written to {output}: give them "
                "different output folders, in separate commands."
            )
        sources[output] = path
    return {path: output for output, path in sources.items()}


def _place(path: Path, roots: list[Path]) -> Path:
    """Return the path of an input below the folder in which it was found; else its name."""
    if str(path) == STANDARD:
        return Path("stdin")
    full = Path(os.path.abspath(path))
    root = next((root for root in roots if full.is_relative_to(root)), full.parent)
    return full.relative_to(root)


def read_input(path: Path) -> bytes:
    """Return all bytes of a file, or of standard input for "-", whose end Ctrl-C leaves to come.

    Raises:
        VqasrError: it cannot be read, or standard input was read before.
    """
    if str(path) != STANDARD:
        return read_file(path)
    with first_ctrl_c_waits():
        data = sys.stdin.buffer.read()
    if not data:
        raise VqasrError("standard input is empty; it can be read once in a command.")
    return data


def standard_input() -> Begun:
    """Return standard input with its first bytes; raise VqasrError if it is empty."""
    file = Begun(sys.stdin.buffer, 4)
    if not file.head:
        raise VqasrError("standard input is empty; it can be read once in a command.")
    return file


@contextmanager
def first_ctrl_c_waits() -> Iterator[None]:
    """Let only a second Ctrl-C interrupt a command that reads standard input as it comes in.

    Ctrl-C goes to all commands of a pipeline. It ends the recording at its head, and with it
    standard input.
    """

    def wait(*_: object) -> None:
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def open_stream(path: Path) -> Iterator[BinaryIO]:
    """Open a file, or standard input for "-", whose end the first Ctrl-C leaves to come."""
    if str(path) == STANDARD:
        with first_ctrl_c_waits():
            yield cast("BinaryIO", standard_input())
    else:
        with open(path, "rb") as file:
            yield file


def _lines(path: Path) -> list[str]:
    data = read_file(path)
    if data.startswith(UTF_16):
        data = data.decode("utf-16", "surrogatepass").encode()
    data = data.removeprefix(codecs.BOM_UTF8)
    if b"\0" in data:
        raise VqasrError(f"{path} is no text file: put one path on each line.")
    # Names may have any bytes.
    names = [os.fsdecode(line.strip()) for line in data.splitlines() if line.strip()]
    if not names:
        raise VqasrError(f"{path}: the list is empty. Put one path on each line.")
    return names
