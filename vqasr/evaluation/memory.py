"""Peak memory of this process, on Linux."""

import re
from pathlib import Path

_PROCESS = Path("/proc/self")


def reset_peak() -> None:
    """Start a new measurement of `peak_mib`."""
    try:
        (_PROCESS / "clear_refs").write_text("5")
    except OSError:  # another system, or a container that forbids it
        return


def peak_mib() -> float | None:
    """Return the peak resident memory in MiB since `reset_peak`; None if unknown."""
    try:
        match = re.search(r"VmHWM:\s+(\d+) kB", (_PROCESS / "status").read_text())
    except OSError:
        return None
    return round(int(match[1]) / 1024, 1) if match else None
