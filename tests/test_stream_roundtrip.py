"""Reading a .vqs stream gives exactly what was written, whatever carries the bytes."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from stream_helpers import (
    CODES,
    EXAMPLE,
    FIELDS,
    FINGERPRINT,
    PipeLike,
    header_of,
    streams,
    unhurried,
)

from vqasr.errors import InvalidCodesError
from vqasr.stream import (
    StreamReader,
    read_stream,
    stream_from_bytes,
    stream_to_bytes,
    write_stream,
)


@unhurried
@given(streams())
def test_reading_gives_what_was_written(fields: dict[str, Any]) -> None:
    stream = stream_from_bytes(stream_to_bytes(**fields), fields["fingerprint"])
    np.testing.assert_array_equal(stream.codes, fields["codes"])
    assert stream.codes.dtype == np.int64
    assert stream.samples == fields["samples"]
    assert stream.frames == fields["codes"].shape[1]
    assert stream.seconds == fields["samples"] / 16_000
    assert stream.nominal_bits == fields["codes"].size * fields["bits_per_code"]
    assert stream.header == header_of(fields)


@pytest.mark.parametrize("dtype", ["int8", "uint8", ">i2", "uint16", "int32", "<i8", "uint64"])
def test_every_integer_dtype_gives_the_same_bytes(dtype: str) -> None:
    codes = np.arange(100).reshape(4, 25)
    fields = {**FIELDS, "samples": 25 * 640}
    assert stream_to_bytes(codes.astype(dtype), **fields) == stream_to_bytes(codes, **fields)


@pytest.mark.parametrize("bits_per_code", range(1, 17))
def test_every_width_takes_its_largest_code_and_refuses_the_next(bits_per_code: int) -> None:
    fields = {**FIELDS, "bits_per_code": bits_per_code, "samples": 640}
    largest = np.full((255, 1), 2**bits_per_code - 1)
    stream = stream_from_bytes(stream_to_bytes(largest, **fields))
    np.testing.assert_array_equal(stream.codes, largest)
    with pytest.raises(InvalidCodesError):
        stream_to_bytes(largest + 1, **fields)


@pytest.mark.parametrize("chunk_frames", [1, 65_535])
def test_more_frames_than_the_chunk_fields_can_count(chunk_frames: int) -> None:
    codes = np.random.default_rng(0).integers(0, 2, (1, 65_540))
    changed = {"bits_per_code": 1, "samples": 65_540 * 640, "chunk_frames": chunk_frames}
    data = stream_to_bytes(codes, **{**FIELDS, **changed})
    np.testing.assert_array_equal(stream_from_bytes(data).codes, codes)


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_files_without_seek_and_with_short_reads_and_writes(step: int) -> None:
    pipe = PipeLike(step)
    write_stream(pipe, CODES, **FIELDS)
    assert pipe.data == EXAMPLE
    assert pipe.flushes == 1
    reader = StreamReader(pipe)
    np.testing.assert_array_equal(reader.read().codes, CODES)
    assert reader.bits_read == 8 * len(EXAMPLE)


@pytest.mark.parametrize("kind", [str, Path])
def test_paths_and_sources_in_memory(tmp_path: Path, kind: type) -> None:
    path = kind(tmp_path / "a.vqs")
    write_stream(path, CODES, **FIELDS)
    assert Path(path).read_bytes() == EXAMPLE
    for source in (path, EXAMPLE, bytearray(EXAMPLE), memoryview(EXAMPLE), io.BytesIO(EXAMPLE)):
        np.testing.assert_array_equal(read_stream(source, FINGERPRINT).codes, CODES)
    assert os.listdir(tmp_path) == ["a.vqs"]


def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.vqs"
    path.write_bytes(b"old")
    with pytest.raises(InvalidCodesError):
        write_stream(path, CODES + 1, **FIELDS)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_stream(path, CODES, **FIELDS)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.vqs"]


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    target, link = tmp_path / "target.vqs", tmp_path / "link.vqs"
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_stream(link, CODES, **FIELDS)
    assert link.is_symlink()
    assert target.read_bytes() == EXAMPLE


def test_a_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    null = tmp_path / "null"
    null.symlink_to(os.devnull)
    write_stream(null, CODES, **FIELDS)
    assert Path(os.devnull).is_char_device()
