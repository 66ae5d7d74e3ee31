"""Reading files and pipes, and atomic writing of whole files."""

import os
import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

from vqasr.errors import VqasrError

PIECE_BYTES = 1 << 16
_BEGIN, _TOKEN_BYTES, _LONGEST_NAME = ".vqasr-", 8, 100


class Begun:
    """A binary file of which the first bytes were read already; `head` holds them."""

    def __init__(self, file: BinaryIO, size: int):
        try:
            # Not through the file's buffer, whose lock a thread would hold while it waits.
            self._read: Callable[[int], bytes] = partial(os.read, file.fileno())
        except (OSError, AttributeError):  # not a file of the system
            self._read = file.read
        self._unread = b""
        self._unread = self.head = self.read_exactly(size)

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, as soon as there are any; b"" at the end."""
        if not self._unread:
            return self._read(size)
        data, self._unread = self._unread[:size], self._unread[size:]
        return data

    def read_exactly(self, size: int) -> bytes:
        """Return `size` bytes; fewer at the end."""
        data = b""
        while len(data) < size and (more := self.read(size - len(data))):
            data += more
        return data

    def read_all(self) -> bytes:
        """Return all bytes to the end."""
        return b"".join(iter(lambda: self.read(PIECE_BYTES), b""))


def read_file(path: str | os.PathLike[str]) -> bytes:
    """Return all bytes of a file; raise VqasrError if it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise VqasrError(f"{path}: {error.strerror or error}.") from error


def is_pipe(path: str | os.PathLike[str]) -> bool:
    """Tell whether a path is a pipe or device, such as /dev/stdin or <(command)."""
    path = Path(path)
    return path.exists() and not path.is_file() and not path.is_dir()


def replace_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file atomically: after a crash or on a full disk, the old content is intact.

    Missing folders are made.

    Raises:
        OSError: the file cannot be written.
    """
    path = Path(path)
    if is_pipe(path):  # must not be replaced
        path.write_bytes(data)
        return
    path = path.resolve()  # replaces the target of a symbolic link, not the link
    # Not tempfile: its files are private (mode 0600), this one has to honour the umask.
    temporary = path.with_name(f"{_BEGIN}{secrets.token_hex(_TOKEN_BYTES)}{_ending(path.name)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:  # with the name that the user knows
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _ending(name: str) -> str:
    return f"-{name[-_LONGEST_NAME:]}.tmp"  # the name may be as long as the system allows


def remove_leftovers(folder: str | os.PathLike[str], names: Iterable[str]) -> None:
    """Remove what killed processes left of files with these names that they were writing."""
    endings = {_ending(name) for name in names}
    for path in Path(folder).glob(f"{_BEGIN}*"):
        if path.name[len(_BEGIN) + 2 * _TOKEN_BYTES :] in endings:
            path.unlink(missing_ok=True)
