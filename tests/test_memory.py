"""Peak memory is that of the moments since it was forgotten."""

import numpy as np
import pytest

from vqasr.memory import forget_peak, peak_mib


@pytest.mark.skipif(peak_mib() is None, reason="no /proc")
def test_peak_rises_and_is_forgotten() -> None:
    forget_peak()
    before = peak_mib()
    data = np.ones(25 * 2**20)  # 200 MiB
    high = peak_mib()
    assert high > before + 150
    del data
    assert peak_mib() > high - 5  # the kernel counts in batches
    forget_peak()
    assert peak_mib() < high - 100
