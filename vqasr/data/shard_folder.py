"""A folder of output shards, on disk or in an object store, each written whole or not at all."""

import io
import json
import posixpath
import tarfile
from dataclasses import dataclass
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from vqasr.data.places import is_url, url_errors
from vqasr.data.shards import Shard
from vqasr.errors import VqasrError
from vqasr.files import remove_leftovers, replace_file

FORMATS = ("parquet", "webdataset")
SUFFIXES = {"parquet": "parquet", "webdataset": "tar"}
# Readers of parquet folders skip names that begin with an underscore.
LEFT_OUT = "_left_out.json"
KEY_COLUMNS = ("key", "id")  # name a WebDataset sample, if the data set has one of them


@dataclass(frozen=True)
class ShardFolder:
    """Shards NAME-00000-of-00007.parquet or .tar, their settings, and what was left out.

    Names depend on the input alone, so that a shard that exists is finished.

    Attributes:
        place: path or URL.
        name: beginning of the files' names.
        form: "parquet" or "webdataset".
        count: number of shards.
    """

    place: str
    name: str
    form: str
    count: int

    def path(self, number: int) -> str:
        """Return path or URL of a shard."""
        return self._path(f"{self._stem(number)}.{SUFFIXES[self.form]}")

    def _left_out_path(self, number: int) -> str:
        return self._path(f"_{self._stem(number)}.left_out.json")

    def _stem(self, number: int) -> str:
        return f"{self.name}-{number:05d}-of-{self.count:05d}"

    def _path(self, name: str) -> str:
        return posixpath.join(self.place, name)

    def begin(self, settings: dict[str, Any]) -> None:
        """Save the settings.

        Raises:
            VqasrError: the folder holds shards with other settings, or cannot be used.
        """
        if self.form not in FORMATS:
            raise VqasrError(f"format {self.form!r}: must be {' or '.join(FORMATS)}.")
        path = self._path(f"_{self.name}.json")
        text = json.dumps(settings | {"form": self.form, "shards": self.count}, indent=2)
        saved = self._read(path)
        if saved is None:
            self._write(path, text.encode())
            return
        before, now = json.loads(saved), json.loads(text)
        if before != now:
            changed = sorted(k for k in now if before.get(k) != now[k])
            raise VqasrError(
                f"{self.place}: holds {self.name} with other settings ({', '.join(changed)} "
                "differ). Choose another folder, or delete this one."
            )

    def finished(self) -> set[int]:
        """Return the numbers of the shards that are there."""
        with url_errors(self.place):
            system, path = fsspec.core.url_to_fs(self.place)
            system.invalidate_cache()
            names = {n.rsplit("/", 1)[-1] for n in system.ls(path, detail=False)}
        return {i for i in range(self.count) if self.path(i).rsplit("/", 1)[-1] in names}

    def write(self, shard: Shard, table: pa.Table, left_out: list[str]) -> None:
        """Write a shard whole, after the list of what was left out of it.

        Args:
            shard: of the input, with the same number.
            table: rows of the output.
            left_out: a message for each row that is missing.

        Raises:
            OSError: the disk is full, or the place cannot be written.
        """
        if left_out:
            self._write(self._left_out_path(shard.number), json.dumps(left_out).encode())
        data = _as_parquet(table) if self.form == "parquet" else _as_tar(table, shard)
        self._write(self.path(shard.number), data)

    def finish(self) -> list[str]:
        """Join the lists of what was left out in _left_out.json, and return them.

        What killed workers have begun to write is removed.
        """
        if not is_url(self.place):
            remove_leftovers(
                self.place, (posixpath.basename(self.path(i)) for i in range(self.count))
            )
        lists = (self._read(self._left_out_path(i)) for i in range(self.count))
        messages: list[str] = [
            text for data in lists if data is not None for text in json.loads(data)
        ]
        if messages:
            self._write(self._path(LEFT_OUT), json.dumps(messages, indent=1).encode())
        return messages

    def _read(self, path: str) -> bytes | None:
        with url_errors(path):
            system, inner = fsspec.core.url_to_fs(path)
            return system.cat_file(inner) if system.exists(inner) else None

    def _write(self, path: str, data: bytes) -> None:
        if not is_url(path):
            replace_file(path, data)
            return
        with url_errors(path):  # stores show an object when it is complete
            system, inner = fsspec.core.url_to_fs(path)
            system.pipe_file(inner, data)


def _as_parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def _as_tar(table: pa.Table, shard: Shard) -> bytes:
    """Write samples KEY.vqs, KEY.txt and KEY.json (all other columns); the same bytes each time."""
    buffer = io.BytesIO()
    metadata = {k.decode(): json.loads(v) for k, v in (table.schema.metadata or {}).items()}
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for i, row in enumerate(table.to_pylist()):
            own = next((str(row[c]) for c in KEY_COLUMNS if row.get(c) is not None), "row")
            own = own.replace("/", "_").replace(".", "_")
            key = f"{shard.number:05d}-{i:06d}-{own}"
            files: dict[str, bytes] = {}
            if "vqs" in row:
                files["vqs"] = row.pop("vqs")
            text = row.pop("text", None)
            if text is not None:
                files["txt"] = str(text).encode()
            files["json"] = json.dumps(row | metadata, default=str).encode()
            for suffix, data in files.items():
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()
