"""Measure `vqasr tokenize` on the local engine and on Ray: time, memory, linearity, killed workers.

python recipes/scale/measure.py --data ../shared/speech/train-*.parquet --hours 1 \\
    --runs local:1 ray:1 local:2 ray:2
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq

from vqasr.data.shards import ShardedData, read_pieces

SAMPLE_S = 0.2  # between two looks at the output
MEMORY_S = 2.0  # between two looks at the memory, which stop the processes for moments
WORKERS = ("ray::MapWorker", "multiprocessing.spawn")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--data", nargs="+", required=True, help="parquet with a column seconds")
    parser.add_argument("--hours", type=float, default=1.0, help="of speech; 0 takes all")
    parser.add_argument(
        "--runs", nargs="+", default=["local:1", "ray:1", "local:2", "ray:2"],
        help="ENGINE:PROCESSES, with :KILLS for workers that are killed at random moments",
    )  # fmt: skip
    parser.add_argument("--shard-rows", type=int, default=100)
    parser.add_argument("--bps", type=float, default=None, help="rate; default: 4 codebooks")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills")
    parser.add_argument("--out", type=Path, default=Path("runs/scale"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    part, hours = some_hours(arguments.data, arguments.hours, arguments.out)
    results = []
    for run in arguments.runs:
        engine, processes, kills = (*run.split(":"), "0")[:3]
        folder = arguments.out / "codes"
        shutil.rmtree(folder, ignore_errors=True)
        rate = ["-n", "4"] if arguments.bps is None else ["--bps", str(arguments.bps)]
        command = [
            sys.executable, "-m", "vqasr", "tokenize", str(part), "-o", str(folder), *rate,
            "--column", "vqs", "--shard-rows", str(arguments.shard_rows), "--engine", engine,
            "--processes", processes,
        ]  # fmt: skip
        measured = watch(command, int(kills), folder, arguments.seed)
        sizes = [path.stat().st_size for path in sorted(folder.glob("*.parquet"))]
        results.append(
            {
                "run": run, "hours": round(hours, 3), **measured, "shards": len(sizes),
                "bytes": sum(sizes), "digest": digest(folder),
            }
        )  # fmt: skip
        print(json.dumps(results[-1]), flush=True)
    log = arguments.out / "results.jsonl"
    with log.open("a") as file:
        file.writelines(json.dumps(result) + "\n" for result in results)
    print(f"added to {log}")


def some_hours(sources: list[str], hours: float, out: Path) -> tuple[Path, float]:
    """Write the first hours of a data set to one file; return its path and its hours."""
    path = out / f"{hours:g}h.parquet"
    data = ShardedData.open(sources)
    found_s, writer = 0.0, None
    for shard in data.shards:
        for piece in read_pieces(shard, data.schema):
            if hours and found_s >= 3600 * hours:
                break
            found_s += sum(piece["seconds"].to_pylist())
            writer = writer or pq.ParquetWriter(path, piece.schema)
            writer.write_table(piece)
    if writer is None:
        raise SystemExit(f"{sources}: no rows.")
    writer.close()
    return path, found_s / 3600


def watch(command: list[str], kills: int, folder: Path, seed: int) -> dict[str, float]:
    """Run a command; return its seconds and the peak memory of all its processes."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    generator = random.Random(seed)
    start = time.monotonic()
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    tree = psutil.Process(process.pid)
    peak, peak_worker, killed, next_kill, next_look = 0, 0, 0, start, start
    working_s = None
    while process.poll() is None:
        time.sleep(SAMPLE_S)
        now = time.monotonic()
        begun = working_s is not None or any(folder.glob("*.parquet"))
        if begun and working_s is None:
            working_s = now - start
        kill = begun and killed < kills and now >= next_kill
        if not kill and now < next_look:
            continue
        try:
            children = tree.children(recursive=True)
            # Private memory: pages that processes share would count several times.
            memory = {child: child.memory_full_info().uss for child in [tree, *children]}
        except psutil.Error:
            continue  # a process has just ended
        next_look = now + MEMORY_S
        workers = [child for child in children if is_worker(child)]
        peak = max(peak, sum(memory.values()))
        peak_worker = max(peak_worker, *(memory.get(worker, 0) for worker in workers or [tree]))
        if kill and workers:
            os.kill(generator.choice(workers).pid, signal.SIGKILL)
            killed, next_kill = killed + 1, now + generator.uniform(3.0, 12.0)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}.")
    return {
        "seconds": round(time.monotonic() - start, 1),
        "first_shard_s": round(working_s or 0.0, 1),
        "peak_mib": round(peak / 2**20),
        "peak_worker_mib": round(peak_worker / 2**20),
        "killed": killed,
    }


def is_worker(process: psutil.Process) -> bool:
    """Tell whether a process is a worker of an engine."""
    try:
        return any(name in " ".join(process.cmdline()) for name in WORKERS)
    except psutil.Error:
        return False


def digest(folder: Path) -> str:
    """Hash names and bytes of the output to 12 hex digits."""
    total = hashlib.sha256()
    for path in sorted(folder.glob("*.parquet")):
        total.update(path.name.encode() + path.read_bytes())
    return total.hexdigest()[:12]


if __name__ == "__main__":
    main()
