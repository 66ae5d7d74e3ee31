"""Data sets of codes instead of audio: parquet files that training reads without any codec."""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import Dataset

from vqasr.audio.acoustics import change_speed
from vqasr.codec.modeling import VQCodecModel
from vqasr.compression.compress import LiveEncoder, compress
from vqasr.data.speech import data_fingerprint, load_speech, row_audio
from vqasr.errors import CodecMismatchError, VqasrError
from vqasr.files import replace_file
from vqasr.stream.stream import Stream

KEY = b"vqasr"
FORMATS = ("codes", "vqs")


@dataclass(frozen=True)
class TokenizeConfig:
    """What the codes of a data set depend on.

    Attributes:
        data, split: as `load_speech` takes them.
        codec: name or folder.
        num_quantizers, bps: the rate, see `operating_point`.
        column: "codes" for lists (num_quantizers, frames) of uint16, "vqs" for whole streams.
        speeds: each row comes once at every speed (with its pitch), 1.0 is as it was recorded.
    """

    data: tuple[str, ...]
    split: str | None = None
    codec: str = "vqasr-base"
    num_quantizers: int | None = None
    bps: float | None = None
    column: str = "codes"
    speeds: tuple[float, ...] = (1.0,)


def tokenize(
    config: TokenizeConfig,
    folder: Path,
    shard_rows: int = 500,
    processes: int = 1,
    advance: Callable[[int, int], None] = lambda rows, total: None,
) -> list[str]:
    """Write a data set's codes; what was written before an interruption is not encoded again.

    Every column but the audio is kept; `speed` says how fast a row is played. The files' metadata
    name the codec, whose codes `load_tokenized` checks.

    Args:
        config: what to encode, and how.
        folder: gets codes-00000-of-00007.parquet, ...
        shard_rows: rows of the data set in a file (times the number of speeds).
        processes: that encode, one thread each.
        advance: called with the rows that are done and their number.

    Returns:
        What is wrong with each row that could not be encoded; such rows are left out.

    Raises:
        VqasrError: the folder holds another data set's codes, or a setting is impossible.
    """
    if config.column not in FORMATS:
        raise VqasrError(f"column {config.column!r}; there are {' and '.join(FORMATS)}.")
    if not config.speeds or not all(0.5 <= speed <= 2.0 for speed in config.speeds):
        raise VqasrError(f"speeds {config.speeds}: each between 0.5 and 2 times is needed.")
    data = load_speech(list(config.data), config.split)
    taken = {*FORMATS, "samples", "speed"} & set(data.column_names)
    if taken:
        raise VqasrError(
            f"{list(config.data)}: has columns {sorted(taken)}, which tokenizing writes. Rename "
            "them."
        )
    codec = VQCodecModel.from_pretrained(config.codec).eval()
    # Refuses what cannot be.
    LiveEncoder(codec, num_quantizers=config.num_quantizers, bps=config.bps)
    about = asdict(config) | {
        "rows": data_fingerprint(data),
        "codec": codec.fingerprint().hex(),
        "shard_rows": shard_rows,
    }
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder / "tokenized.json", about)
    shards = -(-len(data) // shard_rows)
    jobs = [
        _Shard(
            config, range(i * shard_rows, min(len(data), (i + 1) * shard_rows)),
            folder / f"codes-{i:05d}-of-{shards:05d}.parquet",
        )
        for i in range(shards)
    ]  # fmt: skip
    problems: list[str] = []
    done = 0
    for shard, found in _run(jobs, data, processes):
        problems += found
        done += len(shard.rows)
        advance(done, len(data))
    return problems


def load_tokenized(
    source: str | os.PathLike[str], codec_fingerprint: bytes | None = None
) -> Dataset:
    """Open what `tokenize` wrote.

    Args:
        source: its folder.
        codec_fingerprint: 6 bytes, of the codec whose codes are expected; None takes any.

    Raises:
        VqasrError: no such folder, or it is not whole yet.
        CodecMismatchError: the codes are another codec's.
    """
    folder = Path(source)
    paths = sorted(folder.glob("codes-*-of-*.parquet"))
    if not paths:
        raise VqasrError(f"{folder}: holds no codes. `vqasr tokenize` makes them.")
    wanted = int(paths[0].stem.rsplit("-", 1)[1])
    if len(paths) != wanted:
        raise VqasrError(
            f"{folder}: {len(paths)} of {wanted} files are there. Run the same `vqasr tokenize` "
            "again: it goes on where it stopped."
        )
    for path in paths:
        about = json.loads((pq.read_schema(path).metadata or {}).get(KEY, b"{}"))
        codec = about.get("codec")
        if codec_fingerprint is not None and codec != codec_fingerprint.hex():
            raise CodecMismatchError(
                f"{path} holds codes of codec {codec}, but those of {codec_fingerprint.hex()} are "
                "needed. Tokenize the data set with that codec."
            )
    # datasets cannot read a file without rows (none of which could be encoded).
    filled = [str(path) for path in paths if pq.read_metadata(path).num_rows]
    if not filled:
        raise VqasrError(f"{folder}: none of the recordings could be encoded.")
    return Dataset.from_parquet(filled)


def row_codes(row: dict[str, Any]) -> np.ndarray:
    """Codes (num_quantizers, frames) of a row that `tokenize` wrote, in whichever column.

    Raises:
        StreamError: its stream is damaged.
        VqasrError: the row holds neither codes nor a stream.
    """
    if "codes" in row:
        return np.asarray(row["codes"], np.int64)
    if "vqs" in row:
        return Stream.load(row["vqs"]).codes.astype(np.int64)
    raise VqasrError(
        f"a row with {sorted(row)}; codes or vqs is needed. `vqasr tokenize` makes it."
    )


@dataclass(frozen=True)
class _Shard:
    config: TokenizeConfig
    rows: range
    path: Path


def _claim(path: Path, about: dict[str, Any]) -> None:
    about = json.loads(json.dumps(about))
    if not path.exists():
        replace_file(path, json.dumps(about, indent=2).encode())
        return
    before = json.loads(path.read_text())
    if before != about:
        changed = sorted(k for k in about if before.get(k) != about[k])
        raise VqasrError(
            f"{path.parent} holds codes of other settings ({', '.join(changed)} differ). Name "
            "another folder, or delete this one."
        )


def _run(jobs: list[_Shard], data: Dataset, processes: int) -> Iterator[tuple[_Shard, list[str]]]:
    missing = [job for job in jobs if not job.path.is_file()]
    yield from ((job, []) for job in jobs if job.path.is_file())
    if processes <= 1 or len(missing) <= 1:
        yield from ((job, _write_shard(job, data)) for job in missing)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, torch.set_num_threads, (1,)) as pool:
        running: dict[Future[list[str]], _Shard] = {
            pool.submit(_write_shard, job, data): job for job in missing
        }
        while running:
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            yield from ((running.pop(future), future.result()) for future in finished)


def _write_shard(job: _Shard, data: Dataset) -> list[str]:
    """Encode a shard's rows; the file is there as a whole or not at all."""
    config = job.config
    codec = VQCodecModel.from_pretrained(config.codec).eval()
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    for i in job.rows:
        row = data[i]
        try:
            recorded = row_audio(row)
        except VqasrError as error:
            problems.append(f"row {i}: {error}")
            continue
        others = {k: v for k, v in row.items() if k != "audio"}
        for speed in config.speeds:
            samples = change_speed(recorded, speed)
            stream = compress(
                samples, codec=codec, num_quantizers=config.num_quantizers, bps=config.bps
            )
            rows.append(others | _coded(stream, config.column) | {"speed": speed})
    fields = {name: data.features.arrow_schema.field(name) for name in data.column_names}
    schema = pa.schema([f for n, f in fields.items() if n != "audio"])
    kind = pa.list_(pa.list_(pa.uint16())) if config.column == "codes" else pa.binary()
    for name, of in ((config.column, kind), ("samples", pa.int64()), ("speed", pa.float32())):
        schema = schema.append(pa.field(name, of))
    about = {"codec": codec.fingerprint().hex(), "hop_length": codec.config.hop_length}
    table = pa.Table.from_pylist(rows, schema.with_metadata({KEY: json.dumps(about)}))
    partial = job.path.with_suffix(".partial")
    pq.write_table(table, partial)
    os.replace(partial, job.path)
    return problems


def _coded(stream: Stream, column: str) -> dict[str, Any]:
    coded = stream.to_bytes() if column == "vqs" else stream.codes.astype(np.uint16).tolist()
    return {column: coded, "samples": stream.samples}
