"""Data sets in shards of bounded size, for work that many processes or machines share.

Nothing but the footers of parquet files is read to divide a data set. A shard's rows are read in
small pieces, so that memory does not grow with the data.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from vqasr.data.places import find_files, is_of_system, open_place, url_errors
from vqasr.data.webdataset import sample_columns, tar_rows
from vqasr.errors import AudioError, VqasrError

AUDIO = "audio"
CODES_KEY = b"vqasr"  # of the metadata of parquet files with codes, which name their codec
PIECE_ROWS = 16  # are read together
READ_BYTES = 1 << 20  # of a parquet file at once, instead of a whole column of a row group
FOOTERS_AT_ONCE = 16


@dataclass(frozen=True)
class Shard:
    """Neighbouring rows of one file.

    Attributes:
        number: in the data set.
        file: path or URL of a parquet or tar file, or a folder of audio files.
        start, stop: rows of a parquet file or folder; stop is None for all of a tar file, whose
            rows cannot be counted without reading it.
    """

    number: int
    file: str
    start: int = 0
    stop: int | None = None

    def __str__(self) -> str:
        return Path(self.file).name


@dataclass(frozen=True)
class ShardedData:
    """A data set in shards.

    Attributes:
        shards: in the order of the data; they depend on the files and `shard_rows` alone.
        schema: columns and types that all files share; its metadata name the codec of codes.
        fingerprint: 12 hex digits of the files' names, sizes and footers.
    """

    shards: list[Shard]
    schema: pa.Schema
    fingerprint: str

    @classmethod
    def open(
        cls, sources: Sequence[str], split: str | None = None, shard_rows: int = 500
    ) -> "ShardedData":
        """Divide a data set.

        Args:
            sources, split: as `find_files` takes them.
            shard_rows: rows in a shard at most; a tar file is one shard.

        Raises:
            AudioError: a file cannot be read, or the files hold codes of several codecs.
        """
        files = [file for source in sources for file in find_files(source, split)]
        with ThreadPoolExecutor(FOOTERS_AT_ONCE) as pool:
            opened = [*pool.map(partial(_open_file, split=split), files)]
        names = [n for n in opened[0].schema.names if all(n in o.schema.names for o in opened)]
        schema = pa.schema([opened[0].schema.field(name) for name in names])
        written_by = {(facts.schema.metadata or {}).get(CODES_KEY) for facts in opened}
        if len(written_by) > 1:
            raise AudioError(f"{list(sources)}: holds codes of several codecs. Give one at a time.")
        schema = schema.with_metadata({CODES_KEY: about} if (about := written_by.pop()) else None)
        shards: list[Shard] = []
        for file, facts in zip(files, opened, strict=True):
            if facts.rows is None:
                shards.append(Shard(len(shards), file))
                continue
            for start in range(0, facts.rows, shard_rows):
                stop = min(start + shard_rows, facts.rows)
                shards.append(Shard(len(shards), file, start, stop))
        digest = hashlib.sha256()
        for file, facts in zip(files, opened, strict=True):
            digest.update(f"{Path(file).name}\0{facts.digest}\0".encode())
        return cls(shards, schema, digest.hexdigest()[:12])

    def check_columns(
        self, sources: Sequence[str], needed: Sequence[str], written: Sequence[str] = ()
    ) -> None:
        """Check that there is one of the columns that are needed, and none that will be written.

        Args:
            sources: of the data, for errors.
            needed, written: names of columns.

        Raises:
            AudioError: one is missing.
            VqasrError: one would be overwritten.
        """
        names = self.schema.names
        if not set(needed) & set(names):
            raise AudioError(
                f"{list(sources)}: no column named {' or '.join(needed)}; the columns are {names}."
            )
        if taken := set(written) & set(names):
            raise VqasrError(
                f"{list(sources)}: rename the columns {sorted(taken)}, which would be overwritten."
            )


@dataclass(frozen=True)
class _FileFacts:
    schema: pa.Schema
    rows: int | None
    digest: str


def _open_file(file: str, split: str | None) -> _FileFacts:
    suffix = Path(file).suffix
    if suffix == ".tar":
        fields = [pa.field(name, pa.string()) for name in sample_columns(file) if name != AUDIO]
        audio = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        with url_errors(file):
            size = fsspec.open(file).fs.size(file)
        return _FileFacts(pa.schema([*fields, pa.field(AUDIO, audio)]), None, str(size))
    if suffix != ".parquet":
        rows = _audio_folder(file, split)
        about = hashlib.sha256()
        for row in rows:
            path = Path(row[AUDIO]["path"])
            size = path.stat().st_size if path.is_file() else None
            about.update(f"{row | {AUDIO: [os.path.relpath(path, file), size]}}".encode())
        return _FileFacts(rows.features.arrow_schema, len(rows), about.hexdigest())
    try:
        with open_place(file) as opened, pq.ParquetFile(opened) as parquet:
            footer = parquet.metadata
            about = hashlib.sha256(repr(footer.to_dict()).encode())
            return _FileFacts(parquet.schema_arrow, footer.num_rows, about.hexdigest())
    except (pa.ArrowException, OSError) as error:
        raise AudioError(f"{file}: cannot be read as parquet ({error}).") from error


def _audio_folder(folder: str, split: str | None) -> Any:
    from vqasr.data.speech import load_speech  # loads torch, which not every worker needs

    return load_speech(folder, split)


def read_pieces(shard: Shard, schema: pa.Schema, split: str | None = None) -> Iterator[pa.Table]:
    """Read a shard's rows, a few at a time.

    Args:
        shard: of `ShardedData.shards`.
        schema: columns and types that are wanted.
        split: of a folder of audio files with several splits.

    Raises:
        AudioError: the file is damaged.
        OSError, PlaceError: it cannot be reached, which may be otherwise at the next attempt.
    """
    suffix = Path(shard.file).suffix
    try:
        if suffix == ".tar":
            for rows in tar_rows(shard.file, PIECE_ROWS):
                yield pa.Table.from_pylist(rows, schema)
        elif suffix == ".parquet":
            yield from _parquet_pieces(shard, schema)
        else:
            data = _audio_folder(shard.file, split).with_format("arrow")
            stop = len(data) if shard.stop is None else shard.stop
            for start in range(shard.start, stop, PIECE_ROWS):
                yield data[start : min(start + PIECE_ROWS, stop)].select(schema.names).cast(schema)
    except (pa.ArrowException, OSError) as error:
        if is_of_system(error):
            raise
        raise AudioError(
            f"{shard.file}, from row {shard.start}: is damaged ({error}); its rows from there on "
            "are missing."
        ) from error


def _parquet_pieces(shard: Shard, schema: pa.Schema) -> Iterator[pa.Table]:
    with (
        open_place(shard.file) as opened,
        pq.ParquetFile(opened, buffer_size=READ_BYTES) as parquet,
    ):
        group_start = 0
        for group in range(parquet.num_row_groups):
            rows = parquet.metadata.row_group(group).num_rows
            first = max(shard.start - group_start, 0)
            last = min((shard.stop or 0) - group_start, rows)
            at = 0
            # Not the whole group at once: that of a file in one group is the whole file.
            pieces = (
                parquet.iter_batches(PIECE_ROWS, [group], schema.names, use_threads=False)
                if first < last
                else ()
            )
            for piece in pieces:
                begin, end = max(first - at, 0), min(last - at, len(piece))
                if begin < end:
                    # In this order: Arrow cannot cast slices of structs.
                    table = pa.Table.from_batches([piece]).select(schema.names).cast(schema)
                    yield table.slice(begin, end - begin)
                at += len(piece)
                if at >= last:
                    break
            group_start += rows
