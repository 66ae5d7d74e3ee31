"""Peak memory since the last reset."""

import subprocess
import sys

import pytest

from vqasr.evaluation.memory import peak_mib

# In its own process: the kernel may reclaim pages of one that holds gigabytes.
SCRIPT = """
import numpy as np
from vqasr.evaluation.memory import reset_peak, peak_mib
reset_peak()
before = peak_mib()
data = np.ones(25 * 2**20)  # 200 MiB
high = peak_mib()
del data
kept = peak_mib()
reset_peak()
print(before, high, kept, peak_mib())
"""


@pytest.mark.skipif(peak_mib() is None, reason="no /proc")
def test_peak_rises_and_is_reset() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    before, high, kept, after = map(float, done.stdout.split())
    assert high > before + 150
    assert kept > high - 5  # the kernel counts in batches
    assert after < high - 100
