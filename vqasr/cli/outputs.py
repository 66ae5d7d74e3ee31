"""Check outputs before any work, and write them."""

import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO

from vqasr.cli.inputs import STANDARD
from vqasr.errors import VqasrError
from vqasr.files import is_pipe, replace_file


def check_outputs(
    outputs: Iterable[Path], inputs: Iterable[Path], suffix: str, force: bool = False
) -> None:
    """Raise VqasrError if writing would destroy an input or mislead about the format.

    Args:
        outputs: files to be written; "-" and devices are always allowed.
        inputs: files that are read; each is looked at once.
        suffix: ending of the format; another one belongs to another format.
        force: allow to replace an input.
    """
    existing = []
    for output in outputs:
        if str(output) == STANDARD or is_pipe(output):
            continue
        if output.is_dir():
            raise VqasrError(f"{output} is a folder: name a {suffix} file in it.")
        if output.suffix.lower() not in ("", suffix):
            raise VqasrError(
                f"{output}: this command writes {suffix}; give the output that ending."
            )
        if not force and output.exists():
            existing.append(output)
    if not existing:
        return
    read = {_identity(path) for path in inputs if str(path) != STANDARD and path.exists()}
    for output in existing:
        if _identity(output) in read:
            raise VqasrError(
                f"{output} is an input and would be replaced: choose another output, or --force."
            )


def _identity(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_dev, facts.st_ino


def create_live(output: Path) -> AbstractContextManager[BinaryIO]:
    """Open a file that is written while something comes in, or standard output for "-".

    An older file is replaced at once: what has come in is kept whatever happens.
    """
    if str(output) == STANDARD:
        return nullcontext(sys.stdout.buffer)
    output.parent.mkdir(parents=True, exist_ok=True)
    return open(output, "wb")


def write_output(output: Path, data: bytes) -> None:
    """Write a file atomically, or to standard output for "-"."""
    if str(output) == STANDARD:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        replace_file(output, data)
