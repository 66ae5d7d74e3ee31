"""Bytes that are not exactly one .vqs stream: an error, with the part that was intact."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from stream_helpers import (
    CHUNK_ENDS,
    CODES,
    EXAMPLE,
    FINGERPRINT,
    HEADER,
    SAMPLES,
    assemble,
    check_recovered,
    data_chunk,
    end_chunk,
    streams,
    unhurried,
)

from vqasr.errors import (
    CodecMismatchError,
    CorruptStreamError,
    NotAStreamError,
    StreamError,
    TruncatedStreamError,
    UnsupportedVersionError,
)
from vqasr.stream import StreamHeader, read_stream, stream_from_bytes, stream_to_bytes

FIRST = data_chunk(2, 0, bytes.fromhex("007ff00a00"))
SECOND = data_chunk(1, 1, bytes.fromhex("00c000"))


@pytest.mark.parametrize("length", range(len(EXAMPLE)))
def test_every_truncation_keeps_what_precedes_the_cut(length: int) -> None:
    expected = NotAStreamError if length < 3 else TruncatedStreamError
    with pytest.raises(StreamError) as caught:
        stream_from_bytes(EXAMPLE[:length])
    assert type(caught.value) is expected
    if length < CHUNK_ENDS[0]:
        assert caught.value.stream is None
    else:
        whole_chunks = sum(length >= end for end in CHUNK_ENDS) - 1
        check_recovered(caught.value, frames=(0, 2, 3)[whole_chunks])


def test_every_single_bit_flip_is_noticed() -> None:
    for bit in range(8 * len(EXAMPLE)):
        damaged = bytearray(EXAMPLE)
        damaged[bit // 8] ^= 0x80 >> bit % 8
        with pytest.raises(StreamError):
            stream_from_bytes(damaged, FINGERPRINT)
        with pytest.raises(StreamError) as caught:
            stream_from_bytes(damaged)
        if CHUNK_ENDS[1] <= bit // 8 < CHUNK_ENDS[2]:
            check_recovered(caught.value, frames=2)


@unhurried
@given(streams(max_frames=10), st.data())
def test_damage_is_noticed_or_changed_nothing(fields: dict, data: st.DataObject) -> None:
    whole = stream_to_bytes(**fields)
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(damaged)))
        end = min(len(damaged), start + data.draw(st.integers(0, 12)))
        damaged[start:end] = data.draw(st.binary(max_size=12))
    try:
        stream = stream_from_bytes(damaged)
    except StreamError:
        assert damaged != whole
    else:
        assert damaged == whole
        np.testing.assert_array_equal(stream.codes, fields["codes"])


@unhurried
@given(st.sampled_from([b"", b"VQS", b"VQS\x01", HEADER.to_bytes()]), st.binary(max_size=300))
@example(b"", b"")
@example(b"VQ", b"")
def test_random_bytes_raise(start: bytes, rest: bytes) -> None:
    with pytest.raises(StreamError):
        stream_from_bytes(start + rest)


@unhurried
@given(st.lists(st.binary(min_size=2, max_size=20), max_size=5))
def test_random_chunks_with_right_checksums_raise_nothing_else(chunks: list[bytes]) -> None:
    with contextlib.suppress(StreamError):
        stream_from_bytes(assemble(*chunks))


@pytest.mark.parametrize("data", [b"", b"V", b"RIFF....WAVEfmt ", b"vqs\x01" + bytes(40)])
def test_other_files_are_not_streams(data: bytes) -> None:
    with pytest.raises(NotAStreamError, match=r"Not a \.vqs stream"):
        stream_from_bytes(data)


@pytest.mark.parametrize("version", [0, 2, 255])
def test_other_versions_are_refused_by_number(version: int) -> None:
    with pytest.raises(UnsupportedVersionError, match=f"version {version},"):
        stream_from_bytes(EXAMPLE[:3] + bytes([version]) + EXAMPLE[4:])


@pytest.mark.parametrize(
    ("offset", "name"), [(10, "num_quantizers"), (11, "bits_per_code"), (12, "hop_length")]
)
def test_bad_header_fields_are_corrupt_even_with_right_checksums(offset: int, name: str) -> None:
    header = HEADER.to_bytes()[:offset].ljust(14, b"\0")
    with pytest.raises(CorruptStreamError, match=name) as caught:
        stream_from_bytes(assemble(end_chunk(0), header=header))
    assert caught.value.stream is None


@pytest.mark.parametrize(
    ("chunks", "problem", "intact_frames"),
    [
        ((FIRST, FIRST, end_chunk(2560)), "chunk 0 stands where 1", 2),
        ((SECOND, FIRST, end_chunk(1900)), "chunk 1 stands where 0", 0),
        ((FIRST, data_chunk(1, 1, bytes.fromhex("00c008")), end_chunk(1900)), "padding", 2),
        ((FIRST, SECOND, end_chunk(1921)), "1921 samples", 3),
        ((end_chunk(1),), "1 samples", 0),
    ],
)
def test_wrong_content_under_a_right_checksum(
    chunks: tuple[bytes, ...], problem: str, intact_frames: int
) -> None:
    with pytest.raises(CorruptStreamError, match=problem) as caught:
        stream_from_bytes(assemble(*chunks))
    if intact_frames:
        check_recovered(caught.value, intact_frames)
    else:
        assert caught.value.stream is None


@pytest.mark.parametrize("rest", [b"\n", EXAMPLE])
def test_bytes_after_the_end_are_refused(rest: bytes) -> None:
    with pytest.raises(CorruptStreamError, match="after its end") as caught:
        stream_from_bytes(EXAMPLE + rest)
    assert caught.value.stream is not None
    np.testing.assert_array_equal(caught.value.stream.codes, CODES)
    assert caught.value.stream.samples == SAMPLES


def test_the_codes_of_another_codec_are_refused() -> None:
    other = bytes.fromhex("ba9876543210")
    with pytest.raises(CodecMismatchError, match="load the codec") as caught:
        read_stream(EXAMPLE, other)
    assert FINGERPRINT.hex() in str(caught.value)
    assert other.hex() in str(caught.value)


def test_a_header_that_claims_much_allocates_little(tmp_path: Path) -> None:
    header = StreamHeader(FINGERPRINT, 255, 16, 65535).to_bytes()
    path = tmp_path / "claims.vqs"
    path.write_bytes(header + struct.pack("<HH", 65535, 0) + bytes(100))
    with open(path, "rb", buffering=0) as file:
        tracemalloc.start()
        with pytest.raises(TruncatedStreamError):
            read_stream(file)
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak_bytes < 1_000_000
