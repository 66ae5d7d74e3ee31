"""Workers end with the process that started them, even if it is killed."""

import subprocess
import sys

from process_helpers import is_running, wait_for_end

PARENT = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from vqasr.data.engines import end_with_parent

if __name__ == "__main__":
    with ProcessPoolExecutor(2, get_context("spawn"), end_with_parent) as pool:
        print(*{pool.submit(os.getpid).result() for _ in range(9)}, flush=True)
        time.sleep(600)
"""


def test_workers_end_with_a_killed_parent(tmp_path) -> None:
    (tmp_path / "parent.py").write_text(PARENT)
    command = [sys.executable, str(tmp_path / "parent.py")]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert workers
    assert all(map(is_running, workers))
    parent.kill()
    parent.wait()
    wait_for_end(workers, 30)
