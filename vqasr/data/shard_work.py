"""Add columns to the rows of a data set, shard by shard, on one machine or many."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from typing import Any, Protocol

import pyarrow as pa

from vqasr.data.engines import LocalEngine, RayEngine, Task
from vqasr.data.process_memory import keep_few_kernels, return_free_memory
from vqasr.data.shard_folder import ShardFolder
from vqasr.data.shards import AUDIO, Shard, ShardedData, read_pieces
from vqasr.errors import AudioError, PlaceError, VqasrError

Engine = LocalEngine | RayEngine
Added = list[dict[str, Any]]  # values of the new columns, for each row that a row becomes


class RowWork(Protocol):
    """What makes the new columns.

    Attributes:
        fields: names and types of the new columns.
        metadata: of the output's schema.
    """

    fields: list[pa.Field]
    metadata: dict[bytes, bytes]

    def __call__(self, rows: Iterator[dict[str, Any]]) -> Iterator[Added | VqasrError]:
        """Yield, for each row in its order, what is added to it, or why it is left out."""


def process_shards(
    data: ShardedData,
    folder: ShardFolder,
    split: str | None,
    start: Callable[[], RowWork],
    engine: Engine,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> list[str]:
    """Write the shards that are missing in a folder.

    Args:
        data: the input; its column audio is not kept.
        folder: for the output; `ShardFolder.begin` was called.
        split: of the data.
        start: loads the models, once in each worker; see `LocalEngine.run`.
        engine: shares the shards among workers.
        advance: called with the number of finished shards and of all shards.

    Returns:
        A message for each row that was left out, in this run or before it was interrupted.

    Raises:
        OSError: the output cannot be written; the same call continues.
        VqasrError: of the engine.
    """
    finished = folder.finished()
    done = len(finished)
    advance(done, len(data.shards))
    tasks = [asdict(shard) for shard in data.shards if shard.number not in finished]
    for _ in engine.run(partial(_ShardWorker, start, folder, data.schema, split), tasks):
        done += 1
        advance(done, len(data.shards))
    return folder.finish()


class _ShardWorker:
    """Work on one shard after the other, with models that are loaded once."""

    def __init__(
        self,
        start: Callable[[], RowWork],
        folder: ShardFolder,
        schema: pa.Schema,
        split: str | None,
    ):
        keep_few_kernels()
        self._work, self._folder = start(), folder
        self._schema, self._split = schema, split

    def __call__(self, task: Task) -> int:
        """Write a shard; return the number of its rows."""
        shard = Shard(**task)
        kept = [name for name in self._schema.names if name != AUDIO]
        pieces = [self._schema.empty_table().select(kept)]
        left_out: list[str] = []

        def rows() -> Iterator[dict[str, Any]]:
            try:
                for piece in read_pieces(shard, self._schema, self._split):
                    pieces.append(piece.select(kept))
                    yield from piece.to_pylist()
                    return_free_memory()
            except PlaceError:  # nothing is written, and the next run tries again
                raise
            except AudioError as error:  # a damaged file; what was before the damage is used
                left_out.append(str(error))

        places: list[int] = []
        added: Added = []
        for i, result in enumerate(self._work(rows())):
            if isinstance(result, VqasrError):
                left_out.append(f"{shard}, row {shard.start + i}: {result}")
            else:
                places += [i] * len(result)
                added += result
        table = pa.concat_tables(pieces)
        columns = dict(zip(kept, table.take(pa.array(places, pa.int64())).columns, strict=True))
        for field in self._work.fields:
            columns[field.name] = pa.array([row[field.name] for row in added], field.type)
        fields = [*(table.schema.field(name) for name in kept), *self._work.fields]
        # Not columns appended to the table: one without columns has no rows.
        table = pa.table(columns, pa.schema(fields))
        metadata = (self._schema.metadata or {}) | self._work.metadata
        self._folder.write(shard, table.replace_schema_metadata(metadata), left_out)
        return len(table)
