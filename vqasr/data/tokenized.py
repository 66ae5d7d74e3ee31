"""Data sets of codes: parquet files for training without audio and codec."""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import partial
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
from vqasr.processes import end_with_parent
from vqasr.stream.stream import Stream

KEY = b"vqasr"
COLUMNS = ("codes", "vqs")


@dataclass(frozen=True)
class TokenizeConfig:
    """Settings of a data set of codes.

    Attributes:
        data, split: as `load_speech` takes them.
        codec: name or folder.
        num_quantizers, bps: the rate, see `operating_point`.
        column: "codes" for lists (num_quantizers, frames) of uint16, "vqs" for streams.
        speeds: each row is written once at every speed (which changes its pitch too).
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
    """Encode a data set; continue if the folder holds the beginning of an interrupted run.

    Every column but the audio is kept. The files' metadata name the codec, for `load_tokenized`.

    Args:
        config: data set, codec and rate.
        folder: gets codes-00000-of-00007.parquet, ...
        shard_rows: rows of the data set in a file (times the number of speeds).
        processes: number of worker processes, one thread each.
        advance: called with the number of finished rows and of all rows.

    Returns:
        A message for each row that could not be encoded and was left out.

    Raises:
        VqasrError: the folder holds another data set's codes, or a setting is impossible.
    """
    if config.column not in COLUMNS:
        raise VqasrError(f"column {config.column!r}: must be {' or '.join(COLUMNS)}.")
    if not config.speeds or not all(0.5 <= speed <= 2.0 for speed in config.speeds):
        raise VqasrError(f"speeds {config.speeds}: must be one or more numbers from 0.5 to 2.")
    data = load_speech(list(config.data), config.split)
    taken = {*COLUMNS, "samples", "speed"} & set(data.column_names)
    if taken:
        raise VqasrError(
            f"{list(config.data)}: rename the columns {sorted(taken)}, which tokenizing writes."
        )
    codec = VQCodecModel.from_pretrained(config.codec).eval()
    LiveEncoder(codec, num_quantizers=config.num_quantizers, bps=config.bps)  # checks the rate
    settings = asdict(config) | {
        "rows": data_fingerprint(data),
        "codec": codec.fingerprint().hex(),
        "shard_rows": shard_rows,
    }
    folder.mkdir(parents=True, exist_ok=True)
    _check_settings(folder / "tokenized.json", settings)
    starts = range(0, len(data), shard_rows)
    shards = {
        folder / f"codes-{i:05d}-of-{len(starts):05d}.parquet": range(len(data))[k : k + shard_rows]
        for i, k in enumerate(starts)
    }
    problems: list[str] = []
    done = 0
    for path, messages in _run(partial(_write_shard, config, data), shards, processes):
        problems += messages
        done += len(shards[path])
        advance(done, len(data))
    return problems


def load_tokenized(
    source: str | os.PathLike[str], codec_fingerprint: bytes | None = None
) -> Dataset:
    """Load a folder that `tokenize` wrote.

    Args:
        source: the folder.
        codec_fingerprint: 6 bytes of the codec whose codes are expected; None accepts any.

    Raises:
        VqasrError: the folder holds no codes, or is incomplete.
        CodecMismatchError: the codes are another codec's.
    """
    folder = Path(source)
    paths = sorted(folder.glob("codes-*-of-*.parquet"))
    if not paths:
        raise VqasrError(f"{folder}: holds no codes. Make them with `vqasr tokenize`.")
    expected = int(paths[0].stem.rsplit("-", 1)[1])
    if len(paths) != expected:
        raise VqasrError(
            f"{folder}: holds {len(paths)} of {expected} files. Run that `vqasr tokenize` again."
        )
    for path in paths:
        codec = json.loads((pq.read_schema(path).metadata or {}).get(KEY, b"{}")).get("codec")
        if codec_fingerprint is not None and codec != codec_fingerprint.hex():
            raise CodecMismatchError(
                f"{path}: holds codes of codec {codec}, not of {codec_fingerprint.hex()}. Tokenize "
                "the data set with that codec."
            )
    # datasets cannot read a file without rows (none of which could be encoded).
    filled = [str(path) for path in paths if pq.read_metadata(path).num_rows]
    if not filled:
        raise VqasrError(f"{folder}: none of the recordings could be encoded.")
    return Dataset.from_parquet(filled)


def row_codes(row: dict[str, Any]) -> np.ndarray:
    """Return the codes (num_quantizers, frames) int64 of a row that `tokenize` wrote.

    Raises:
        StreamError: its stream is damaged.
        VqasrError: the row has neither codes nor a stream.
    """
    if "codes" in row:
        return np.asarray(row["codes"], np.int64)
    if "vqs" in row:
        return Stream.load(row["vqs"]).codes.astype(np.int64)
    raise VqasrError(
        f"a row has columns {sorted(row)}, but neither codes nor vqs. Use rows of `vqasr tokenize`."
    )


def _check_settings(path: Path, settings: dict[str, Any]) -> None:
    """Save the settings, or raise VqasrError if others are saved there."""
    text = json.dumps(settings, indent=2)
    if not path.exists():
        replace_file(path, text.encode())
        return
    saved, settings = json.loads(path.read_text()), json.loads(text)
    if saved != settings:
        changed = sorted(k for k in settings if saved.get(k) != settings[k])
        raise VqasrError(
            f"{path.parent}: holds codes with other settings ({', '.join(changed)} differ). Choose "
            "another folder, or delete this one."
        )


def _run(
    write: Callable[[Path, range], list[str]], shards: dict[Path, range], processes: int
) -> Iterator[tuple[Path, list[str]]]:
    missing = {path: rows for path, rows in shards.items() if not path.is_file()}
    yield from ((path, []) for path in shards if path not in missing)
    if processes <= 1 or len(missing) <= 1:
        yield from ((path, write(path, rows)) for path, rows in missing.items())
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _begin_worker) as pool:
        running = {pool.submit(write, path, rows): path for path, rows in missing.items()}
        yield from ((running[future], future.result()) for future in as_completed(running))


def _begin_worker() -> None:
    torch.set_num_threads(1)
    end_with_parent()


def _write_shard(config: TokenizeConfig, data: Dataset, path: Path, numbers: range) -> list[str]:
    """Encode a shard's rows to a file, which appears only when complete."""
    codec = VQCodecModel.from_pretrained(config.codec).eval()
    lists = config.column == "codes"
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    for i in numbers:
        row = data[i]
        try:
            recorded = row_audio(row)
        except VqasrError as error:
            problems.append(f"row {i}: {error}")
            continue
        del row["audio"]
        for speed in config.speeds:
            stream = compress(
                change_speed(recorded, speed), codec=codec,
                num_quantizers=config.num_quantizers, bps=config.bps,
            )  # fmt: skip
            codes = stream.codes.astype(np.uint16).tolist() if lists else stream.to_bytes()
            rows.append(row | {config.column: codes, "samples": stream.samples, "speed": speed})
    source = data.features.arrow_schema
    fields = [source.field(name) for name in data.column_names if name != "audio"]
    kind = pa.list_(pa.list_(pa.uint16())) if lists else pa.binary()
    fields += [
        pa.field(config.column, kind),
        pa.field("samples", pa.int64()),
        pa.field("speed", pa.float32()),
    ]
    metadata = {"codec": codec.fingerprint().hex(), "hop_length": codec.config.hop_length}
    table = pa.Table.from_pylist(rows, pa.schema(fields, {KEY: json.dumps(metadata)}))
    unfinished = path.with_suffix(".partial")
    pq.write_table(table, unfinished)
    os.replace(unfinished, path)
    return problems
