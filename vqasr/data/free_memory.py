"""Give freed memory back to the system."""

import ctypes
import sys


def return_free_memory() -> None:
    """Return freed memory to the system, where the C library is glibc.

    Clips of every length leave holes in its heap: encoding 240 of them on one thread took the
    process from 434 to 636 MiB, with this after each 20 from 428 to 456.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)
