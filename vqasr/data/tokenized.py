"""Data sets of codes: parquet files for training without audio and codec."""

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, IterableDataset, concatenate_datasets, load_dataset

from vqasr.assets import CLIPS
from vqasr.audio.acoustics import change_speed
from vqasr.audio.files import read_audio
from vqasr.audio.pitch_tracker import track_codes
from vqasr.codec.modeling import VQCodecModel
from vqasr.compression.compress import LiveEncoder, encode_audio, stream_of
from vqasr.compression.device_encoder import DeviceEncoder
from vqasr.compression.rates import operating_point
from vqasr.data.engines import LocalEngine
from vqasr.data.places import find_files, open_place
from vqasr.data.shard_folder import ShardFolder
from vqasr.data.shard_work import Added, Engine, process_shards
from vqasr.data.shards import AUDIO, CODES_KEY, ShardedData
from vqasr.data.speech import row_audio
from vqasr.errors import AudioError, CodecMismatchError, PlaceError, VqasrError
from vqasr.stream.stream import Stream

NAME = "codes"
COLUMNS = ("codes", "vqs")
CPU = "cpu"
ROWS_TOGETHER = 256  # are encoded together on another device than the CPU
BATCHES_SORTED = 50  # of a stream of codes, by length


@dataclass(frozen=True)
class TokenizeConfig:
    """Settings of a data set of codes.

    Attributes:
        data, split: as `load_speech` takes them.
        codec: name or folder.
        num_quantizers, bps: the rate, see `operating_point`.
        column: "codes" for lists (num_quantizers, frames) of uint16, "vqs" for streams.
        speeds: each row is written once at every speed (which changes its pitch too).
        form: "parquet", or "webdataset" for tar files with KEY.vqs or codes in KEY.json, KEY.txt
            and the other columns in KEY.json.
        device: "cpu", or another one, such as "cuda", whose codes are compared with the CPU's
            first, see `DeviceEncoder`.
        pitch: add the fundamental frequency to streams, for those who listen to them.
    """

    data: tuple[str, ...]
    split: str | None = None
    codec: str = "vqasr-base"
    num_quantizers: int | None = None
    bps: float | None = None
    column: str = "codes"
    speeds: tuple[float, ...] = (1.0,)
    form: str = "parquet"
    device: str = CPU
    pitch: bool = False


def tokenize(
    config: TokenizeConfig,
    folder: str | os.PathLike[str],
    shard_rows: int = 500,
    engine: Engine = LocalEngine(),  # noqa: B008 - frozen
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> list[str]:
    """Encode a data set; continue if the folder holds the beginning of an interrupted run.

    Every column but the audio is kept. The files' metadata name the codec, for `load_tokenized`.

    Args:
        config: data set, codec and rate.
        folder: path or URL; gets codes-00000-of-00007.parquet, ...
        shard_rows: rows of a file of the data set in a shard (times the number of speeds); a tar
            file is one shard.
        engine: shares the shards among workers.
        advance: called with the number of finished shards and of all shards.

    Returns:
        A message for each row that could not be encoded and was left out; _left_out.json holds them
        too.

    Raises:
        VqasrError: the folder holds another data set's codes, or a setting is impossible.
    """
    if config.column not in COLUMNS:
        raise VqasrError(f"column {config.column!r}: must be {' or '.join(COLUMNS)}.")
    if config.pitch and config.column != "vqs":
        raise VqasrError(f"column {config.column!r} holds no pitch: use the column vqs for it.")
    if not config.speeds or not all(0.5 <= speed <= 2.0 for speed in config.speeds):
        raise VqasrError(f"speeds {config.speeds}: must be one or more numbers from 0.5 to 2.")
    codec = VQCodecModel.from_pretrained(config.codec).eval()
    # Checks rate and prior.
    LiveEncoder(codec, num_quantizers=config.num_quantizers, bps=config.bps)
    data = ShardedData.open(config.data, config.split, shard_rows)
    data.check_columns(config.data, [AUDIO], [*COLUMNS, "samples", "speed"])
    shards = ShardFolder(os.fspath(folder), NAME, config.form, len(data.shards))
    settings = asdict(config) | {"codec": codec.fingerprint().hex(), "shard_rows": shard_rows}
    shards.begin(settings | {"data": data.fingerprint})
    return process_shards(data, shards, config.split, partial(Tokenizer, config), engine, advance)


class Tokenizer:
    """Encode the rows of a data set, see `RowWork`."""

    def __init__(self, config: TokenizeConfig):
        self._config = config
        self._codec = codec = VQCodecModel.from_pretrained(config.codec).eval()
        self._point = operating_point(
            codec.config, num_quantizers=config.num_quantizers, bps=config.bps
        )
        self._on_device: DeviceEncoder | None = None
        if config.device != CPU:
            self._on_device = DeviceEncoder(codec, config.device, self._point)
            self._on_device.check([read_audio(path) for path in sorted(CLIPS.glob("*.flac"))])
        self._lists = config.column == "codes"
        kind = pa.list_(pa.list_(pa.uint16())) if self._lists else pa.binary()
        self.fields = [
            pa.field(config.column, kind),
            pa.field("samples", pa.int64()),
            pa.field("speed", pa.float32()),
        ]
        about = {"codec": codec.fingerprint().hex(), "hop_length": codec.config.hop_length}
        self.metadata = {CODES_KEY: json.dumps(about).encode()}

    def __call__(self, rows: Iterator[dict[str, Any]]) -> Iterator[Added | VqasrError]:
        """Yield codes or streams at each speed, or the error of a recording."""
        together = 1 if self._on_device is None else ROWS_TOGETHER
        while window := list(islice(rows, together)):
            recorded = [self._recorded(row) for row in window]
            sounds = [s for clips in recorded if not isinstance(clips, VqasrError) for s in clips]
            added = map(self._added, self._encode(sounds), sounds)
            for clips in recorded:
                if isinstance(clips, VqasrError):
                    yield clips
                else:
                    yield [next(added) | {"speed": speed} for speed in self._config.speeds]

    def _recorded(self, row: dict[str, Any]) -> list[np.ndarray] | VqasrError:
        try:
            recorded = row_audio(row)
        except VqasrError as error:
            return error
        return [change_speed(recorded, speed) for speed in self._config.speeds]

    def _encode(self, sounds: list[np.ndarray]) -> list[np.ndarray]:
        if self._on_device is not None:
            return self._on_device(sounds)
        point = self._point
        return [
            encode_audio(self._codec, sound, point.num_quantizers, point.bit_price)
            for sound in sounds
        ]

    def _added(self, codes: np.ndarray, sound: np.ndarray) -> dict[str, Any]:
        if self._lists:
            return {"codes": [*codes.astype(np.uint16)], "samples": len(sound)}
        pitch = track_codes(sound) if self._config.pitch else None
        stream = stream_of(self._codec, codes, len(sound), pitch=pitch)
        return {"vqs": stream.to_bytes(), "samples": len(sound)}


def load_tokenized(
    source: str | os.PathLike[str], codec_fingerprint: bytes | None = None
) -> Dataset:
    """Load a folder that `tokenize` wrote as parquet files.

    Args:
        source: the folder, a path or URL.
        codec_fingerprint: 6 bytes of the codec whose codes are expected; None accepts any.

    Raises:
        VqasrError: the folder holds no codes, or is incomplete.
        CodecMismatchError: the codes are another codec's.
    """
    return Dataset.from_parquet(_code_files(os.fspath(source), codec_fingerprint))


def rows_to_train_on(
    sources: Sequence[str | os.PathLike[str]],
    codec_fingerprint: bytes,
    *,
    buffer_rows: int,
    batch_size: int,
    seed: int,
) -> Dataset | IterableDataset:
    """Load folders that `tokenize` wrote; as `stream_tokenized` does if buffer_rows is not 0."""
    if not buffer_rows:
        return concatenate_datasets([load_tokenized(s, codec_fingerprint) for s in sources])
    return stream_tokenized(
        sources, codec_fingerprint, buffer_rows=buffer_rows, batch_size=batch_size, seed=seed
    )


def stream_tokenized(
    sources: Sequence[str | os.PathLike[str]],
    codec_fingerprint: bytes | None = None,
    *,
    buffer_rows: int = 2000,
    batch_size: int = 1,
    seed: int = 0,
) -> IterableDataset:
    """Read folders that `tokenize` wrote as a stream, for data of any size.

    Files come in random order, and their rows through a buffer, from which rows are drawn at
    random; both anew in each epoch. Memory does not grow with the data.

    Args:
        sources, codec_fingerprint: as in `load_tokenized`; the files of all folders are mixed.
        buffer_rows: rows in the buffer.
        batch_size: of the training; so many neighbouring rows have similar lengths.
        seed: of the order.

    Raises:
        VqasrError, CodecMismatchError: as `load_tokenized`.
    """
    files = [f for source in sources for f in _code_files(os.fspath(source), codec_fingerprint)]
    rows = load_dataset("parquet", data_files=files, split="train", streaming=True)
    rows = rows.shuffle(seed, buffer_size=buffer_rows)
    group = partial(_by_length, batch_size=batch_size)
    return rows.map(group, batched=True, batch_size=BATCHES_SORTED * batch_size)


def _by_length(rows: dict[str, list[Any]], batch_size: int) -> dict[str, list[Any]]:
    """Sort rows by length into batches, and put the batches in random order."""
    lengths = np.array(rows["samples"])
    order = np.argsort(lengths, kind="stable")
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    # The last batch may be smaller and stays the last: others would be cut elsewhere.
    mixed = np.random.default_rng(lengths).permutation(len(batches) - 1)
    places = np.concatenate([*(batches[i] for i in mixed), batches[-1]])
    return {name: [values[i] for i in places] for name, values in rows.items()}


def _code_files(source: str, codec_fingerprint: bytes | None) -> list[str]:
    """Return the parquet files of a folder of codes that have rows; raise as `load_tokenized`."""
    try:
        found = find_files(source, f"{NAME}-")
    except PlaceError:
        raise
    except AudioError:
        found = []
    paths = [path for path in found if path.endswith(".parquet")]
    if not paths:
        raise VqasrError(f"{source}: holds no codes. Make them with `vqasr tokenize`.")
    count = re.fullmatch(rf"{NAME}-\d+-of-(\d+)", Path(paths[0]).stem)
    if count is None:
        raise VqasrError(
            f"{source}: {Path(paths[0]).name} is no file of `vqasr tokenize`, whose names are as "
            f"{NAME}-00000-of-00007.parquet."
        )
    expected = int(count[1])
    if len(paths) != expected:
        raise VqasrError(
            f"{source}: holds {len(paths)} of {expected} files. Run that `vqasr tokenize` again."
        )
    filled = []  # datasets cannot read a file without rows (none of which could be encoded)
    for path in paths:
        with open_place(path) as file, pq.ParquetFile(file) as parquet:
            metadata, rows = parquet.schema_arrow.metadata or {}, parquet.metadata.num_rows
        codec = json.loads(metadata.get(CODES_KEY, b"{}")).get("codec")
        if codec_fingerprint is not None and codec != codec_fingerprint.hex():
            raise CodecMismatchError(
                f"{path}: holds codes of codec {codec}, not of {codec_fingerprint.hex()}. Tokenize "
                "the data set with that codec."
            )
        filled += [path] if rows else []
    if not filled:
        raise VqasrError(f"{source}: none of the recordings could be encoded.")
    return filled


def row_codes(row: dict[str, Any]) -> np.ndarray:
    """Return the codes (num_quantizers, frames) int64 of a row that `tokenize` wrote.

    Raises:
        StreamError: its stream is damaged.
        VqasrError: the row has neither codes nor a stream.
    """
    if {"codes", "vqs"} & set(row) and row.get("codes") is None and row.get("vqs") is None:
        raise VqasrError("the row has neither codes nor a stream: its value is missing.")
    if row.get("codes") is not None:
        return np.asarray(row["codes"], np.int64)
    if "vqs" in row:
        return Stream.load(row["vqs"]).codes.astype(np.int64)
    raise VqasrError(
        f"a row has columns {sorted(row)}, but neither codes nor vqs. Use rows of `vqasr tokenize`."
    )
