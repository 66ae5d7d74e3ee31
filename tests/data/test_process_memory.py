"""Memory that is free goes back to the system, and few kernels are kept."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from vqasr.data.process_memory import return_free_memory


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


CONVOLUTIONS = """
from vqasr.data.process_memory import KERNELS, keep_few_kernels
{limit}
import torch
convolution = torch.nn.Conv1d(16, 16, 7)
with torch.inference_mode():
    for samples in [*range(100, 100 + KERNELS + 20), 100]:
        convolution(torch.zeros(20, 16, samples))
"""


@pytest.mark.parametrize(("limit", "found"), [("", "hit"), ("keep_few_kernels()", "miss")])
def test_few_kernels_are_kept(limit: str, found: str) -> None:
    environment = os.environ | {"ONEDNN_VERBOSE": "profile_create"}
    environment.pop("ONEDNN_PRIMITIVE_CACHE_CAPACITY", None)  # of this process's own workers
    run = subprocess.run(
        [sys.executable, "-c", CONVOLUTIONS.format(limit=limit)],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    made = [line for line in run.stdout.splitlines() if "20x16x1x94" in line]
    if not made:
        pytest.skip("this torch does not compute the convolution with oneDNN")
    # Of the first length, which comes again after KERNELS + 19 others.
    assert f"create:cache_{found}" in made[-1]
