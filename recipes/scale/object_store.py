"""Tokenize from and to an S3 store: the same bytes as on disk, also after the command is killed.

python recipes/scale/object_store.py ../shared/speech/dev-00000-of-00001.parquet

The store is moto's, a server of the S3 protocol on this machine; files are reached through s3fs.
"""

import argparse
import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq
import s3fs
from moto.server import ThreadedMotoServer

PORT = 5123
SETTINGS = {
    "AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none",
    "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": f"http://127.0.0.1:{PORT}",
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parquet", help="a file with columns audio and text")
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--engines", nargs="+", default=["local", "ray"])
    arguments = parser.parse_args()
    os.environ |= SETTINGS
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # not every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=PORT, verbose=False)
    server.start()
    store = s3fs.S3FileSystem()
    store.mkdir("speech")
    store.mkdir("codes")
    with tempfile.TemporaryDirectory() as folder:
        part = f"{folder}/part.parquet"
        pq.write_table(pq.read_table(arguments.parquet).slice(0, arguments.rows), part)
        store.put(part, "speech/part.parquet")
        tokenize(part, f"{folder}/codes")
        expected = {f.name: f.read_bytes() for f in Path(folder, "codes").glob("*.parquet")}
    for engine in arguments.engines:
        target = f"codes/{engine}"
        first = f"{target}/{min(expected)}"
        killed = start("s3://speech/part.parquet", f"s3://{target}", engine)
        while not store.exists(first) and killed.poll() is None:
            time.sleep(0.2)
            store.invalidate_cache()
        killed.kill()
        killed.wait()
        before = len(store.glob(f"{target}/*.parquet"))
        tokenize("s3://speech/part.parquet", f"s3://{target}", engine)
        store.invalidate_cache()
        found = {Path(f).name: store.cat(f) for f in store.glob(f"{target}/*.parquet")}
        if found != expected:
            raise SystemExit(f"{engine}: {sorted(found)} differ from those on disk.")
        print(f"{engine}: killed after {before} of {len(expected)} shards; same bytes as on disk")
    server.stop()


def start(data: str, target: str, engine: str = "local") -> subprocess.Popen:
    """Start `vqasr tokenize` with four codebooks and shards of ten rows."""
    command = [
        sys.executable, "-m", "vqasr", "tokenize", data, "-o", target, "-n", "4",
        "--shard-rows", "10", "--engine", engine, "--processes", "1",
    ]  # fmt: skip
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


def tokenize(data: str, target: str, engine: str = "local") -> None:
    """Run `vqasr tokenize` to its end."""
    if code := start(data, target, engine).wait():
        raise SystemExit(f"vqasr tokenize {data} -o {target} --engine {engine} ended with {code}.")


if __name__ == "__main__":
    main()
