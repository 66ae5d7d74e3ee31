"""Work on rows that takes its time and notes who does it, for tests of engines."""

import os
import resource
import signal
import sys
import time
from functools import partial
from pathlib import Path

import pyarrow as pa

from vqasr.data.engines import RayEngine
from vqasr.data.shard_folder import ShardFolder
from vqasr.data.shard_work import process_shards
from vqasr.data.shards import ShardedData

SHARD_ROWS = 4
LARGEST_FILE = 100_000  # bytes, as if the disk were full then


class SlowWork:
    """Add the length of a row's text; write the number of this process into a folder."""

    def __init__(self, notes: str, row_s: float):
        self.fields, self.metadata = [pa.field("length", pa.int64())], {}
        self._row_s = row_s
        Path(notes, f"{os.getpid()}.pid").touch()
        if Path(notes, "full").exists():
            resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, resource.RLIM_INFINITY))
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)

    def __call__(self, rows):
        """Yield the length of each text."""
        for row in rows:
            time.sleep(self._row_s)
            yield [{"length": len(row["text"])}]


def run(source: str, out: str, notes: str, engine, row_s: float = 0.0, advance=None) -> list[str]:
    """Work on a data set."""
    data = ShardedData.open([source], None, SHARD_ROWS)
    folder = ShardFolder(out, "texts", "parquet", len(data.shards))
    folder.begin({})
    start = partial(SlowWork, notes, row_s)
    return process_shards(data, folder, None, start, engine, advance or (lambda *_: None))


def divide():
    """Divide by a task's number."""
    return lambda task: 1 / task["by"]


def die():
    """End the worker, as the kernel does for want of memory."""
    return lambda task: os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    engine = RayEngine(2)
    engine.begin()
    run(*sys.argv[1:4], engine, float(sys.argv[4]))
