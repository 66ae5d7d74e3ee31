"""The process's largest memory since a moment, on Linux."""

import re
from pathlib import Path

_PROCESS = Path("/proc/self")


def forget_peak() -> None:
    """From now on `peak_mib` counts anew."""
    try:
        (_PROCESS / "clear_refs").write_text("5")
    except OSError:  # another system, or a container that forbids it
        return


def peak_mib() -> float | None:
    """Largest resident memory in MiB; None where the system does not say."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", (_PROCESS / "status").read_text())
    except OSError:
        return None
    return round(int(found[1]) / 1024, 1) if found else None
