"""Streams of format 1, which vqasr 0.1 wrote, stay readable, and damage to them is noticed."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from stream_helpers import unhurried

from vqasr.entropy.packing import pack_codes
from vqasr.errors import (
    CodecMismatchError,
    CorruptStreamError,
    NotAStreamError,
    StreamError,
    TruncatedStreamError,
)
from vqasr.stream.whole import StreamHeader, read_stream, stream_from_bytes

FINGERPRINT = bytes.fromhex("0123456789ab")
HEADER = StreamHeader(FINGERPRINT, 2, 10, 640, version=1)
CODES = np.array([[1, 2, 3], [1023, 512, 0]])
SAMPLES = 1900
# The header, two data chunks, the end chunk; as vqasr 0.1 wrote it.
EXAMPLE = bytes.fromhex(
    "565153010123456789ab020a8002"
    "02000000007ff00a00a1cb69d1"
    "0100010000c00005485e16"
    "00006c070000b718d6a1"
)
CHUNK_ENDS = (14, 27, 38)  # of the header and the two data chunks


@st.composite
def streams(draw: st.DrawFn, max_frames: int = 40) -> dict[str, Any]:
    """Arguments of `format_1`."""
    num_quantizers = draw(st.one_of(st.integers(1, 9), st.just(255)))
    bits_per_code = draw(st.integers(1, 16))
    frames = draw(st.integers(0, max_frames))
    hop_length = draw(st.one_of(st.integers(1, 1000), st.just(65535)))
    seed = draw(st.integers(0, 2**32 - 1))
    codes = np.random.default_rng(seed).integers(0, 2**bits_per_code, (num_quantizers, frames))
    return {
        "codes": codes,
        "samples": frames * hop_length - draw(st.integers(0, hop_length - 1)) if frames else 0,
        "fingerprint": draw(st.binary(min_size=6, max_size=6)),
        "bits_per_code": bits_per_code,
        "hop_length": hop_length,
        "chunk_frames": draw(st.one_of(st.integers(1, 12), st.sampled_from([250, 65535]))),
    }


def format_1(codes, samples, fingerprint, bits_per_code, hop_length, chunk_frames) -> bytes:
    """A writer of format 1, made from its description."""
    header = StreamHeader(fingerprint, len(codes), bits_per_code, hop_length, version=1)
    parts = [codes[:, i : i + chunk_frames] for i in range(0, codes.shape[1], chunk_frames)]
    chunks = [
        data_chunk(part.shape[1], i % 65536, pack_codes(part.T, bits_per_code))
        for i, part in enumerate(parts)
    ]
    return assemble(*chunks, end_chunk(samples), header=header.to_bytes())


def data_chunk(frames: int, sequence: int, payload: bytes) -> bytes:
    return struct.pack("<HH", frames, sequence) + payload


def end_chunk(samples: int) -> bytes:
    return struct.pack("<HI", 0, samples)


def assemble(*chunks: bytes, header: bytes = HEADER.to_bytes()) -> bytes:
    """A stream with right checksums around whatever the chunks say."""
    checked = (chunk + struct.pack("<I", zlib.crc32(header + chunk)) for chunk in chunks)
    return header + b"".join(checked)


def check_recovered(error: StreamError, frames: int) -> None:
    """``error`` holds, and its message counts, the first frames of the example."""
    assert error.stream is not None
    np.testing.assert_array_equal(error.stream.codes, CODES[:, :frames])
    assert error.stream.samples == frames * 640
    assert error.stream.header == HEADER
    assert f"{frames} frames ({frames * 640 / 16_000:.2f} s)" in str(error)


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
    whole = format_1(**fields)
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
    header = StreamHeader(FINGERPRINT, 255, 16, 65535, version=1).to_bytes()
    path = tmp_path / "claims.vqs"
    path.write_bytes(header + struct.pack("<HH", 65535, 0) + bytes(100))
    with open(path, "rb", buffering=0) as file:
        tracemalloc.start()
        with pytest.raises(TruncatedStreamError):
            read_stream(file)
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak_bytes < 1_000_000


@unhurried
@given(streams())
def test_reading_gives_what_was_written(fields: dict[str, Any]) -> None:
    stream = stream_from_bytes(format_1(**fields), fields["fingerprint"])
    np.testing.assert_array_equal(stream.codes, fields["codes"])
    assert stream.samples == fields["samples"]
    assert stream.header.version == 1


def test_the_golden_stream() -> None:
    fields = {"bits_per_code": 10, "hop_length": 640, "samples": SAMPLES, "chunk_frames": 2}
    assert format_1(CODES, fingerprint=FINGERPRINT, **fields) == EXAMPLE
    np.testing.assert_array_equal(stream_from_bytes(EXAMPLE).codes, CODES)
    part = read_stream(EXAMPLE, start_s=0.05, end_s=0.06)
    np.testing.assert_array_equal(part.codes, CODES[:, 1:2])
    assert (part.start_frame, part.samples) == (1, 640)


def test_partial_gives_the_intact_chunks() -> None:
    cut = EXAMPLE[:-3]
    with pytest.raises(TruncatedStreamError):
        stream_from_bytes(cut)
    assert np.array_equal(stream_from_bytes(cut, partial=True).codes, CODES)
