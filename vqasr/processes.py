"""Worker processes that end with the process that started them."""

import multiprocessing
import multiprocessing.connection
import os
import threading


def end_with_parent() -> None:
    """End this worker when its parent ends: a killed command's workers would go on writing."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # for the type checker: workers have one

    def wait() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
