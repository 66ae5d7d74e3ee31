"""Writing and reading a .vqs stream live: chunk by chunk, through failures and misuse."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stream_helpers import (
    CHUNK_ENDS,
    CODES,
    EXAMPLE,
    FIELDS,
    HEADER,
    SAMPLES,
    PipeLike,
    header_of,
    streams,
    unhurried,
)

from vqasr.errors import InvalidCodesError, StreamError, TruncatedStreamError, VqasrError
from vqasr.stream import (
    StreamReader,
    StreamWriter,
    stream_to_bytes,
    write_stream,
)


class FullDisk(io.BytesIO):
    """Takes so many bytes, then fails in the middle of a write."""

    def __init__(self, capacity_bytes: int) -> None:
        super().__init__()
        self.capacity_bytes = capacity_bytes

    def write(self, data: Any) -> int:
        super().write(data[: self.capacity_bytes - self.tell()])
        if self.tell() == self.capacity_bytes:
            raise OSError(28, "No space left on device")
        return len(data)


@unhurried
@given(streams(), st.data())
def test_split_writes_give_the_bytes_of_one_write(fields: dict, data: st.DataObject) -> None:
    codes = fields["codes"]
    cuts = sorted(data.draw(st.lists(st.integers(0, codes.shape[1]), max_size=6)))
    file = io.BytesIO()
    with StreamWriter(file, header_of(fields), fields["chunk_frames"]) as writer:
        for part in np.split(codes, cuts, axis=1):
            reused = np.array(part, order="F")  # nor does the order in memory matter
            writer.write(reused)
            reused[:] = 0
        writer.close(fields["samples"])
    assert file.getvalue() == stream_to_bytes(**fields)
    assert writer.bits_written == 8 * len(file.getvalue())


def test_a_chunk_can_be_read_before_the_next_is_written() -> None:
    pipe = PipeLike()
    writer = StreamWriter(pipe, HEADER, chunk_frames=2)
    reader = StreamReader(pipe)
    assert reader.header == HEADER
    chunks = reader.chunks()
    writer.write(CODES[:, :2])
    np.testing.assert_array_equal(next(chunks), CODES[:, :2])
    writer.write(CODES[:, 2:])
    writer.close(SAMPLES)
    np.testing.assert_array_equal(next(chunks), CODES[:, 2:])
    assert reader.samples is None
    assert list(chunks) == []
    assert reader.samples == SAMPLES
    with pytest.raises(StreamError, match="has been used"):
        reader.read()


def test_chunks_before_damage_are_given_out() -> None:
    chunks = StreamReader(io.BytesIO(EXAMPLE[:30])).chunks()
    np.testing.assert_array_equal(next(chunks), CODES[:, :2])
    with pytest.raises(TruncatedStreamError) as caught:
        next(chunks)
    assert caught.value.stream is None


def test_full_chunks_are_on_disk_while_the_file_is_open(tmp_path: Path) -> None:
    path = tmp_path / "live.vqs"
    with open(path, "wb") as file:
        writer = StreamWriter(file, HEADER, chunk_frames=2)
        assert path.read_bytes() == EXAMPLE[: CHUNK_ENDS[0]]
        writer.write(CODES)
        assert path.read_bytes() == EXAMPLE[: CHUNK_ENDS[1]]


def test_an_exception_keeps_all_frames_and_writes_no_end() -> None:
    file = io.BytesIO()
    writer = StreamWriter(file, HEADER, chunk_frames=2)
    writer.write(CODES)
    with pytest.raises(RuntimeError, match="microphone"), writer:
        raise RuntimeError("the microphone was pulled out")
    assert file.getvalue() == EXAMPLE[: CHUNK_ENDS[2]]


def test_leaving_without_close_is_an_error_and_keeps_the_frames() -> None:
    file = io.BytesIO()
    writer = StreamWriter(file, HEADER, chunk_frames=2)
    with pytest.raises(StreamError, match=r"close\(samples\)"), writer:
        writer.write(CODES)
    assert file.getvalue() == EXAMPLE[: CHUNK_ENDS[2]]


def write_example(writer: StreamWriter) -> None:
    writer.write(CODES)
    writer.close(SAMPLES)


@pytest.mark.parametrize("capacity_bytes", range(CHUNK_ENDS[0] + 1, len(EXAMPLE)))
def test_a_full_disk_keeps_what_it_took_and_takes_no_more(capacity_bytes: int) -> None:
    file = FullDisk(capacity_bytes)
    writer = StreamWriter(file, HEADER, chunk_frames=2)
    with pytest.raises(OSError, match="No space"), writer:
        write_example(writer)
    file.capacity_bytes = 1000
    with pytest.raises(StreamError, match="failed"):
        writer.write(CODES)
    assert file.getvalue() == EXAMPLE[:capacity_bytes]


@pytest.mark.parametrize("samples", [0, 1280, 1921, -1, 2**32, 1900.0, None])
def test_only_samples_that_match_the_frames_close_the_stream(samples: Any) -> None:
    file = io.BytesIO()
    writer = StreamWriter(file, HEADER, chunk_frames=2)
    writer.write(CODES)
    with pytest.raises(StreamError, match="samples"):
        writer.close(samples)
    writer.close(SAMPLES)
    with pytest.raises(StreamError, match="closed"):
        writer.write(CODES)
    assert file.getvalue() == EXAMPLE


@pytest.mark.parametrize(
    ("codes", "problem"),
    [
        (np.array([[0, 1], [2, 1024]]), r"1024, but 10 bits per code allow 0\.\.1023"),
        (np.array([[0, 1], [2, 2**64 - 1]], dtype=np.uint64), "18446744073709551615"),
        (np.array([[0, -1], [2, 3]]), "-1"),
        (np.array([[0.0, 1.0], [2.0, 3.0]]), "float64"),
        (np.array([[True, False], [True, True]]), "bool"),
        (np.array([0, 1]), "shape"),
        (np.zeros((1, 2, 2), dtype=int), "shape"),
        (np.zeros((3, 2), dtype=int), r"\(2, frames\), not \(3, 2\)"),
        ([[0, 1], [2, 3]], "numpy array, not list"),
    ],
)
def test_codes_that_cannot_be_written(codes: Any, problem: str) -> None:
    file = io.BytesIO()
    writer = StreamWriter(file, HEADER, chunk_frames=1)
    with pytest.raises(InvalidCodesError, match=problem):
        writer.write(codes)
    assert file.getvalue() == HEADER.to_bytes()
    assert writer.frames == 0
    destination = io.BytesIO()
    with pytest.raises(VqasrError):
        write_stream(destination, codes, **FIELDS)
    assert destination.getvalue() == b""


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("fingerprint", [b"short", "0123456789ab"]),
        ("bits_per_code", [0, 17, 10.0]),
        ("hop_length", [0, 65536]),
        ("chunk_frames", [0, 65536]),
    ],
)
def test_fields_out_of_range_are_refused(name: str, values: list[object]) -> None:
    for value in values:
        with pytest.raises(StreamError, match=name):
            stream_to_bytes(CODES, **{**FIELDS, name: value})


@pytest.mark.parametrize("rows", [0, 256])
def test_numbers_of_codebooks_out_of_range_are_refused(rows: int) -> None:
    with pytest.raises(StreamError, match="num_quantizers"):
        stream_to_bytes(np.zeros((rows, 3), dtype=int), **FIELDS)
