"""Writing and reading a .vqs stream live: chunk by chunk, through failures and misuse."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prior_helpers import PRIOR, likely_codes
from stream_helpers import (
    CHUNK_ENDS,
    CODES,
    EXAMPLE,
    FIELDS,
    FINGERPRINT,
    HEADER,
    SAMPLES,
    PipeLike,
    coded_bytes,
    header_of,
    save,
    stream_to_bytes,
    streams,
    unhurried,
)

from vqasr.entropy.payload import encode_payload
from vqasr.errors import (
    CorruptStreamError,
    InvalidCodesError,
    StreamError,
    TruncatedStreamError,
    VqasrError,
)
from vqasr.stream.header import StreamHeader
from vqasr.stream.reader import StreamReader
from vqasr.stream.stream import Stream
from vqasr.stream.writer import StreamWriter


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
    whole = stream_to_bytes(**fields)
    stream_id = int.from_bytes(whole[10:12], "little") if whole[2] == 1 else None
    with StreamWriter(file, header_of(fields), fields["prior"], stream_id) as writer:
        for part in np.split(codes, cuts, axis=1):
            reused = np.array(part, order="F")  # nor does the order in memory matter
            writer.write(reused)
            reused[:] = 0
        writer.close(fields["samples"])
    assert file.getvalue() == whole
    assert writer.bits_written == 8 * len(file.getvalue())


def test_a_chunk_can_be_read_before_the_next_is_written() -> None:
    pipe = PipeLike()
    writer = StreamWriter(pipe, HEADER, stream_id=0xBEEF)
    writer.write(CODES[:, :2])
    reader = StreamReader(pipe)
    assert reader.header == HEADER
    chunks = reader.chunks()
    first = next(chunks)
    np.testing.assert_array_equal(first.codes, CODES[:, :2])
    assert (first.start_frame, reader.samples) == (0, None)
    writer.write(CODES[:, 2:])
    writer.close(SAMPLES)
    second = next(chunks)
    np.testing.assert_array_equal(second.codes, CODES[:, 2:])
    assert second.start_frame == 2
    assert list(chunks) == []
    assert reader.samples == SAMPLES
    with pytest.raises(StreamError, match="has been used"):
        list(reader.chunks())


def test_chunks_before_and_after_damage_are_given_out() -> None:
    chunks = StreamReader(io.BytesIO(EXAMPLE[:30])).chunks()
    np.testing.assert_array_equal(next(chunks).codes, CODES[:, :2])
    with pytest.raises(TruncatedStreamError) as caught:
        next(chunks)
    assert caught.value.stream is None
    chunks = StreamReader(io.BytesIO(EXAMPLE[:14] + b"noise" + EXAMPLE[28:])).chunks()
    last = next(chunks)
    assert last.start_frame == 2
    np.testing.assert_array_equal(last.codes, CODES[:, 2:])
    with pytest.raises(CorruptStreamError):
        next(chunks)


def test_full_chunks_are_on_disk_while_the_file_is_open(tmp_path: Path) -> None:
    path = tmp_path / "live.vqs"
    with open(path, "wb") as file:
        writer = StreamWriter(file, HEADER, stream_id=0xBEEF)
        assert path.read_bytes() == b""
        writer.write(CODES)
        assert path.read_bytes() == EXAMPLE[: CHUNK_ENDS[1]]


def interrupted(data: bytes) -> None:
    """`data` holds all frames of the example, and readers see that its end is missing."""
    assert data[: CHUNK_ENDS[1]] == EXAMPLE[: CHUNK_ENDS[1]]
    with pytest.raises(TruncatedStreamError) as caught:
        Stream.load(data)
    assert caught.value.stream is not None
    np.testing.assert_array_equal(caught.value.stream.codes, CODES)
    assert caught.value.stream.samples == 3 * 640


def test_an_exception_keeps_all_frames_and_marks_the_end() -> None:
    file = io.BytesIO()
    writer = StreamWriter(file, HEADER, stream_id=0xBEEF)
    writer.write(CODES)
    with pytest.raises(RuntimeError, match="microphone"), writer:
        raise RuntimeError("the microphone was pulled out")
    interrupted(file.getvalue())


def test_leaving_without_close_is_an_error_and_keeps_the_frames() -> None:
    file = io.BytesIO()
    writer = StreamWriter(file, HEADER, stream_id=0xBEEF)
    with pytest.raises(StreamError, match=r"close\(samples\)"), writer:
        writer.write(CODES)
    interrupted(file.getvalue())


def test_a_killed_writer_leaves_what_it_flushed(tmp_path: Path) -> None:
    path = tmp_path / "live.vqs"
    script = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parents[1] / "helpers")!r})
from stream_helpers import CODES, HEADER
from vqasr.stream.writer import StreamWriter
writer = StreamWriter(open({str(path)!r}, "wb"), HEADER, stream_id=0xBEEF)
writer.write(CODES)
os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -9
    with pytest.raises(TruncatedStreamError) as caught:
        Stream.load(path)
    assert caught.value.stream is not None
    np.testing.assert_array_equal(caught.value.stream.codes, CODES[:, :2])


def write_example(writer: StreamWriter) -> None:
    writer.write(CODES)
    writer.close(SAMPLES)


@pytest.mark.parametrize("capacity_bytes", range(1, len(EXAMPLE)))
def test_a_full_disk_keeps_what_it_took_and_takes_no_more(capacity_bytes: int) -> None:
    file = FullDisk(capacity_bytes)
    writer = StreamWriter(file, HEADER, stream_id=0xBEEF)
    with pytest.raises(OSError, match="No space"), writer:
        write_example(writer)
    file.capacity_bytes = 1000
    with pytest.raises(StreamError, match="failed"):
        writer.write(CODES)
    assert file.getvalue() == EXAMPLE[:capacity_bytes]


@pytest.mark.parametrize("samples", [0, 1280, 1921, -1, 2**41, 1900.0, None])
def test_only_samples_that_match_the_frames_close_the_stream(samples: Any) -> None:
    file = io.BytesIO()
    writer = StreamWriter(file, HEADER, stream_id=0xBEEF)
    writer.write(CODES)
    with pytest.raises(StreamError, match="samples"):
        writer.close(samples)
    writer.close(np.int64(SAMPLES))
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
    writer = StreamWriter(file, HEADER)
    with pytest.raises(InvalidCodesError, match=problem):
        writer.write(codes)
    assert file.getvalue() == b""
    assert writer.frames == 0
    destination = io.BytesIO()
    with pytest.raises(VqasrError):
        save(destination, codes, **FIELDS)
    assert destination.getvalue() == b""


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("fingerprint", [b"no", "0123456789ab"]),
        ("bits_per_code", [0, 17, 10.0]),
        ("hop_length", [0, 100, 2720, 65536]),
        ("chunk_frames", [0, 3, 65536]),
        ("stream_id", [-1, 65536]),
    ],
)
def test_fields_out_of_range_are_refused(name: str, values: list[object]) -> None:
    for value in values:
        with pytest.raises(StreamError, match=name):
            stream_to_bytes(CODES, **{**FIELDS, name: value})


@pytest.mark.parametrize("rows", [0, 17])
def test_numbers_of_codebooks_out_of_range_are_refused(rows: int) -> None:
    with pytest.raises(StreamError, match="num_quantizers"):
        stream_to_bytes(np.zeros((rows, 3), dtype=int), **FIELDS)


def test_chunks_that_the_format_cannot_hold_are_refused() -> None:
    with pytest.raises(StreamError, match="shorter chunks"):
        stream_to_bytes(np.zeros((16, 3), dtype=int), **{**FIELDS, "chunk_frames": 3000})


def test_the_prior_of_another_codec_is_refused() -> None:
    fields = {**FIELDS, "prior": PRIOR, "bits_per_code": 4}
    with pytest.raises(StreamError, match="codec"):
        stream_to_bytes(CODES % 16, **{**fields, "fingerprint": b"others"})
    with pytest.raises(StreamError, match="3 bits per code"):
        stream_to_bytes(CODES % 8, **{**fields, "bits_per_code": 3})
    with pytest.raises(StreamError, match="prior has 3 codebooks"):
        stream_to_bytes(np.zeros((4, 3), dtype=int), **fields)
    with pytest.raises(InvalidCodesError):
        stream_to_bytes(CODES, **{**fields, "bits_per_code": 10})


def test_whichever_is_smaller_is_written() -> None:
    likely = likely_codes(PRIOR, 3, 75)
    unlikely = 15 - likely
    for codes, coded in ((likely, {True}), (unlikely, {False})):
        data = coded_bytes(codes, 75 * 640, chunk_frames=25)
        chunks = list(StreamReader(io.BytesIO(data), prior=PRIOR).intact_chunks())
        assert {c.coded for c in chunks if c.payload} == coded
        np.testing.assert_array_equal(Stream.load(data, prior=PRIOR).codes, codes)


def test_the_stream_id_comes_from_the_codes() -> None:
    fields = {**FIELDS, "stream_id": None}
    one, again = stream_to_bytes(CODES, **fields), stream_to_bytes(CODES, **fields)
    assert one == again
    changed = CODES.copy()
    changed[1, 2] += 1
    assert one[10:12] != stream_to_bytes(changed, **fields)[10:12]
    live = [io.BytesIO(), io.BytesIO()]
    for file, codes in zip(live, (CODES, changed), strict=True):
        StreamWriter(file, HEADER).write(codes)  # knows only its first chunk
    assert live[0].getvalue() == live[1].getvalue() != b""


def test_an_interruption_between_chunks_keeps_all_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.arange(60).reshape(1, 60)
    header = StreamHeader(FINGERPRINT[:3], 1, 10, 640, chunk_frames=10)
    file = io.BytesIO()
    calls = 0

    def interrupted_once(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return encode_payload(*arguments)

    monkeypatch.setattr("vqasr.stream.writer.encode_payload", interrupted_once)
    with pytest.raises(KeyboardInterrupt), StreamWriter(file, header) as writer:
        writer.write(codes)
    with pytest.raises(TruncatedStreamError) as caught:
        Stream.load(file.getvalue())
    assert caught.value.stream is not None
    np.testing.assert_array_equal(caught.value.stream.codes, codes)


def test_the_writer_sets_prior_and_form_itself() -> None:
    writer = StreamWriter(io.BytesIO(), replace(HEADER, prior_fingerprint=b"xy", single=True))
    assert writer.header.prior_fingerprint == bytes(2)
    assert not writer.header.single
