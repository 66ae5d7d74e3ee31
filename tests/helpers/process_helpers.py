"""What tests ask about other processes."""

import os
import time


def wait_for_end(pids: list[int], most_s: float) -> None:
    """Fail if any of the processes runs after `most_s` seconds."""
    end = time.monotonic() + most_s
    while any(map(is_running, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(is_running, pids))


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"  # a zombie has ended
    except ProcessLookupError:
        return False
    except OSError:
        return True  # no /proc: it answers signals
