"""Reading and atomic writing of whole files."""

import os
import secrets
from pathlib import Path

from vqasr.errors import VqasrError


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Return all bytes of a file; raise VqasrError if it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise VqasrError(f"{path}: {error.strerror or error}.") from error


def replace_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file atomically: after a crash or on a full disk, the old content is intact.

    Raises:
        OSError: the file cannot be written.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        path.write_bytes(data)  # a pipe or device must not be replaced; a folder raises OSError
        return
    path = path.resolve()  # replaces the target of a symbolic link, not the link
    # Not tempfile: its files are private (mode 0600), this one has to honour the umask.
    temporary = path.with_name(f".vqasr-{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
