"""Reading a .vqs stream gives exactly what was written, whatever carries the bytes."""

from __future__ import annotations

import io
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stream_helpers import (
    CODES,
    EXAMPLE,
    FIELDS,
    FINGERPRINT,
    PipeLike,
    header_of,
    save,
    stream_to_bytes,
    streams,
    unhurried,
)

from vqasr.errors import InvalidCodesError, StreamError
from vqasr.stream.rates import container_bytes
from vqasr.stream.reader import StreamReader
from vqasr.stream.stream import Stream


@unhurried
@given(streams())
def test_reading_gives_what_was_written(fields: dict[str, Any]) -> None:
    data = stream_to_bytes(**fields)
    stream = Stream.load(data, fingerprint=fields["fingerprint"], prior=fields["prior"])
    np.testing.assert_array_equal(stream.codes, fields["codes"])
    assert stream.codes.dtype == np.int64
    assert stream.samples == fields["samples"]
    assert stream.frames == fields["codes"].shape[1]
    assert stream.seconds == fields["samples"] / 16_000
    assert stream.lost_frames == 0
    of_the_writer = ("prior_fingerprint", "stream_id", "single")
    named = {name: getattr(stream.header, name) for name in of_the_writer}
    assert stream.header == replace(header_of(fields), **named)
    short = fields["stream_id"] is None and stream.frames < fields["chunk_frames"]
    assert stream.header.single == short
    if fields["stream_id"] is not None:
        assert stream.header.stream_id == fields["stream_id"]


@pytest.mark.parametrize("dtype", ["int8", "uint8", ">i2", "uint16", "int32", "<i8", "uint64"])
def test_every_integer_dtype_gives_the_same_bytes(dtype: str) -> None:
    codes = np.arange(100).reshape(4, 25)
    fields = {**FIELDS, "samples": 25 * 640}
    assert stream_to_bytes(codes.astype(dtype), **fields) == stream_to_bytes(codes, **fields)


@pytest.mark.parametrize("bits_per_code", range(1, 17))
def test_every_width_takes_its_largest_code_and_refuses_the_next(bits_per_code: int) -> None:
    fields = {**FIELDS, "bits_per_code": bits_per_code, "samples": 640}
    largest = np.full((16, 1), 2**bits_per_code - 1)
    stream = Stream.load(stream_to_bytes(largest, **fields))
    np.testing.assert_array_equal(stream.codes, largest)
    with pytest.raises(InvalidCodesError):
        stream_to_bytes(largest + 1, **fields)


def test_more_chunks_than_the_sequence_field_can_count() -> None:
    codes = np.random.default_rng(0).integers(0, 2, (1, 65_540))
    changed = {"bits_per_code": 1, "samples": 65_540 * 640 - 3, "chunk_frames": 1}
    data = stream_to_bytes(codes, **{**FIELDS, **changed})
    stream = Stream.load(data)
    np.testing.assert_array_equal(stream.codes, codes)
    assert stream.samples == 65_540 * 640 - 3


@unhurried
@given(streams(), st.floats(0, 3), st.floats(0, 3))
def test_a_part_by_time(fields: dict[str, Any], start_s: float, length_s: float) -> None:
    data = stream_to_bytes(**fields)
    part = Stream.load(data, prior=fields["prior"], start_s=start_s, end_s=start_s + length_s)
    hop_length, frames = fields["hop_length"], fields["codes"].shape[1]
    last = min(frames, math.ceil(round((start_s + length_s) * 16_000) / hop_length))
    first = min(round(start_s * 16_000) // hop_length, last)
    first = last if start_s + length_s == start_s else first  # nothing overlaps an empty interval
    assert part.start_frame == first
    np.testing.assert_array_equal(part.codes, fields["codes"][:, first:last])
    ends_early = last == frames and last > first
    unused = frames * fields["hop_length"] - fields["samples"] if ends_early else 0
    assert part.samples >= 0
    if last > first:
        assert part.samples == (last - first) * fields["hop_length"] - unused


@pytest.mark.parametrize(
    ("start_s", "end_s"), [(-1.0, None), (2.0, 1.0), (math.inf, None), (math.nan, None)]
)
def test_a_part_that_ends_before_it_begins(start_s: float, end_s: float | None) -> None:
    with pytest.raises(StreamError, match="start_s"):
        Stream.load(EXAMPLE, start_s=start_s, end_s=end_s)


@pytest.mark.parametrize("frames", [0, 1, 25, 26, 1000])
@pytest.mark.parametrize("chunk_frames", [25, 125, 1500])
def test_the_container_costs_what_is_promised(frames: int, chunk_frames: int) -> None:
    codes = np.zeros((1, frames), dtype=int)
    data = stream_to_bytes(
        codes, samples=frames * 640, fingerprint=FINGERPRINT, bits_per_code=8, hop_length=640,
        chunk_frames=chunk_frames,
    )  # fmt: skip
    chunks = frames // chunk_frames + 1
    assert len(data) - frames == container_bytes(frames, chunk_frames) <= 16 + 10 * chunks


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_files_without_seek_and_with_short_reads_and_writes(step: int) -> None:
    pipe = PipeLike(step)
    save(pipe, CODES, **FIELDS)
    assert pipe.data == EXAMPLE
    assert pipe.flushes == 1
    reader = StreamReader(pipe)
    np.testing.assert_array_equal(np.concatenate([c.codes for c in reader.chunks()], axis=1), CODES)
    assert reader.bits_read == 8 * len(EXAMPLE)


@pytest.mark.parametrize("kind", [str, Path])
def test_paths_and_sources_in_memory(tmp_path: Path, kind: type) -> None:
    path = kind(tmp_path / "a.vqs")
    save(path, CODES, **FIELDS)
    assert Path(path).read_bytes() == EXAMPLE
    for source in (path, EXAMPLE, bytearray(EXAMPLE), memoryview(EXAMPLE), io.BytesIO(EXAMPLE)):
        np.testing.assert_array_equal(Stream.load(source, fingerprint=FINGERPRINT).codes, CODES)
    assert os.listdir(tmp_path) == ["a.vqs"]


def test_a_failed_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.vqs"
    path.write_bytes(b"old")
    with pytest.raises(InvalidCodesError):
        save(path, CODES + 1, **FIELDS)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        save(path, CODES, **FIELDS)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.vqs"]


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    target, link = tmp_path / "target.vqs", tmp_path / "link.vqs"
    target.write_bytes(b"old")
    link.symlink_to(target)
    save(link, CODES, **FIELDS)
    assert link.is_symlink()
    assert target.read_bytes() == EXAMPLE


def test_a_device_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    null = tmp_path / "null"
    null.symlink_to(os.devnull)
    save(null, CODES, **FIELDS)
    assert Path(os.devnull).is_char_device()
