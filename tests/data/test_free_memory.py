"""Memory that is free goes back to the system."""

import os
import platform
from pathlib import Path

import pytest

from vqasr.data.free_memory import return_free_memory


def used_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc_trim is glibc's")
def test_holes_go_back() -> None:
    pieces = [bytes(100_000) for _ in range(2000)]
    pieces = pieces[::20]  # the others become holes between them
    holes = used_mib()
    return_free_memory()
    assert holes - used_mib() > 80  # of 190
    assert all(piece == bytes(100_000) for piece in pieces)
