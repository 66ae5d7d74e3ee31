"""Bytes that are not exactly one .vqs stream: an error, with all that was intact."""

from __future__ import annotations

import contextlib
import io
import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prior_helpers import CODEC, PRIOR, likely_codes, random_prior
from stream_helpers import (
    CHUNK_ENDS,
    CODES,
    EXAMPLE,
    FINGERPRINT,
    HEADER,
    SAMPLES,
    assemble,
    check_recovered,
    coded_bytes,
    data_chunk,
    last_chunk,
    stream_to_bytes,
    streams,
    unhurried,
    with_header_checksum,
)

from vqasr.errors import (
    CodecMismatchError,
    CorruptStreamError,
    NotAStreamError,
    PriorMismatchError,
    StreamError,
    TruncatedStreamError,
    UnsupportedVersionError,
)
from vqasr.grid import MISSING
from vqasr.stream.header import StreamHeader
from vqasr.stream.reader import StreamReader
from vqasr.stream.stream import Stream

FIRST = data_chunk(0, bytes.fromhex("007ff00a00"))
LAST = last_chunk(1, bytes.fromhex("00c000"), 1, 20)
KEPT_AND_LOST = (True, True, False, False)
CODED_CODES = likely_codes(PRIOR, 3, 60)
CODED = coded_bytes(CODED_CODES, 60 * 640 - 7, chunk_frames=10, stream_id=1)


def chunk_bounds(data: bytes) -> list[int]:
    """Where the chunks of a stream begin and end, the header's end first."""
    reader = StreamReader(io.BytesIO(data), prior=PRIOR)
    bounds = [14]
    for chunk in reader.intact_chunks():
        bounds.append(bounds[-1] + chunk.total_bytes)
    return bounds


@pytest.mark.parametrize("length", range(len(EXAMPLE)))
def test_every_truncation_keeps_what_precedes_the_cut(length: int) -> None:
    expected = NotAStreamError if length < 3 else TruncatedStreamError
    with pytest.raises(StreamError) as caught:
        Stream.load(EXAMPLE[:length])
    assert type(caught.value) is expected
    if length < CHUNK_ENDS[0]:
        assert caught.value.stream is None
    else:
        check_recovered(caught.value, (True, True) if length >= CHUNK_ENDS[1] else ())


def test_every_single_bit_flip_is_noticed() -> None:
    for bit in range(8 * len(EXAMPLE)):
        damaged = bytearray(EXAMPLE)
        damaged[bit // 8] ^= 0x80 >> bit % 8
        with pytest.raises(StreamError):
            Stream.load(damaged, fingerprint=FINGERPRINT)
        with pytest.raises(StreamError) as caught:
            Stream.load(damaged)
        if bit // 8 >= CHUNK_ENDS[1]:
            check_recovered(caught.value, (True, True))
        elif bit // 8 >= CHUNK_ENDS[0]:
            check_recovered(caught.value, (False, False, True))


def test_damage_to_a_chunk_costs_that_chunk_alone() -> None:
    bounds = chunk_bounds(CODED)
    for number, (start, end) in enumerate(itertools.pairwise(bounds[:-1])):
        for position in range(start, end):
            damaged = bytearray(CODED)
            damaged[position] ^= 0x40
            with pytest.raises(CorruptStreamError) as caught:
                Stream.load(damaged, prior=PRIOR)
            expected = CODED_CODES.copy()
            expected[:, 10 * number : 10 * number + 10] = MISSING
            assert caught.value.stream is not None
            np.testing.assert_array_equal(caught.value.stream.codes, expected)
            assert caught.value.stream.samples == 60 * 640 - 7
            assert caught.value.stream.lost_frames == 10


def test_missing_repeated_and_reordered_chunks() -> None:
    bounds = chunk_bounds(CODED)
    header, *chunks = (CODED[a:b] for a, b in zip([0, *bounds[:-1]], bounds, strict=True))
    for wrong, lost in (
        ([0, 2, 3, 4, 5, 6], [1]),
        ([0, 1, 1, 2, 3, 4, 5, 6], []),
        ([0, 2, 1, 3, 4, 5, 6], [1]),
        ([2, 3, 6], [0, 1, 4, 5]),
    ):
        with pytest.raises(CorruptStreamError) as caught:
            Stream.load(header + b"".join(chunks[i] for i in wrong), prior=PRIOR)
        expected = CODED_CODES.copy()
        for number in lost:
            expected[:, 10 * number : 10 * number + 10] = MISSING
        assert caught.value.stream is not None
        np.testing.assert_array_equal(caught.value.stream.codes, expected)


def test_a_spliced_chunk_of_another_stream_is_no_chunk_of_this_one() -> None:
    other = stream_to_bytes(CODES + 0, samples=SAMPLES, fingerprint=FINGERPRINT, bits_per_code=10,
                            hop_length=640, chunk_frames=2, stream_id=0xBFEF)  # fmt: skip
    spliced = EXAMPLE[: CHUNK_ENDS[0]] + other[CHUNK_ENDS[0] : CHUNK_ENDS[1]]
    with pytest.raises(CorruptStreamError) as caught:
        Stream.load(spliced + EXAMPLE[CHUNK_ENDS[1] :])
    check_recovered(caught.value, (False, False, True))


@unhurried
@given(streams(max_frames=30), st.data())
def test_damage_is_noticed_or_changed_nothing(fields: dict, data: st.DataObject) -> None:
    whole = stream_to_bytes(**fields)
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(damaged)))
        end = min(len(damaged), start + data.draw(st.integers(0, 12)))
        damaged[start:end] = data.draw(st.binary(max_size=12))
    try:
        stream = Stream.load(damaged, prior=fields["prior"])
    except StreamError as error:
        assert damaged != whole
        if error.stream is not None:
            kept = error.stream.codes
            frames = min(kept.shape[1], fields["codes"].shape[1])
            right = (kept[:, :frames] == fields["codes"][:, :frames]).all(axis=0)
            assert (right | (kept[0, :frames] == MISSING)).all()
    else:
        assert damaged == whole
        np.testing.assert_array_equal(stream.codes, fields["codes"])


@unhurried
@given(
    st.sampled_from([b"", b"VQ", b"VQ\x02", b"VQ\x03", HEADER.to_bytes()]), st.binary(max_size=300)
)
@example(b"", b"")
@example(b"V", b"")
def test_random_bytes_raise(start: bytes, rest: bytes) -> None:
    with pytest.raises(StreamError):
        Stream.load(start + rest)


@unhurried
@given(
    st.lists(
        st.one_of(
            st.binary(min_size=5, max_size=20),
            st.builds(data_chunk, st.integers(0, 9), st.binary(max_size=9), coded=st.booleans()),
            st.builds(
                last_chunk, st.integers(0, 9), st.binary(max_size=9), st.integers(0, 4095),
                st.integers(0, 4095), coded=st.booleans(),
            ),
        ),
        max_size=5,
    ),
    st.booleans(),
)  # fmt: skip
def test_random_chunks_with_right_checksums_raise_nothing_else(
    chunks: list[bytes], with_prior: bool
) -> None:
    header = HEADER
    if with_prior:
        header = StreamHeader(CODEC[:3], 2, 4, 640, 5, PRIOR.fingerprint[:2], 0xEF)
    with contextlib.suppress(StreamError):
        fingerprint = PRIOR.fingerprint if with_prior else b""
        data = assemble(*chunks, header=header.to_bytes(), prior=fingerprint)
        Stream.load(data, prior=PRIOR)


@pytest.mark.parametrize("data", [b"", b"V", b"VQ!", b"RIFF....WAVEfmt ", b"vq\x02" + bytes(40)])
def test_other_files_are_not_streams(data: bytes) -> None:
    with pytest.raises(NotAStreamError, match=r"Not a \.vqs stream"):
        Stream.load(data)


@pytest.mark.parametrize("version", [2, 3, 31, 0x82])
def test_newer_versions_are_refused_by_number(version: int) -> None:
    with pytest.raises(UnsupportedVersionError, match=f"version {version & 0x1F},"):
        Stream.load(EXAMPLE[:2] + bytes([version]) + EXAMPLE[3:])


@pytest.mark.parametrize(
    ("chunks", "present"),
    [
        ((FIRST, data_chunk(1, bytes(4)), LAST), (True, True, True)),  # too short to be a chunk
        ((FIRST, last_chunk(1, bytes.fromhex("00c008"), 1, 20)), (True, True, False)),  # padding
        ((FIRST, last_chunk(1, bytes.fromhex("00c000"), 1, 640)), (True, True)),  # unused > hop
        ((FIRST, last_chunk(1, bytes.fromhex("00c000"), 2, 20)), (True, True)),  # frames
        ((last_chunk(0, b"", 0, 1),), ()),  # ends before it begins
        ((FIRST, data_chunk(1, b"\1", coded=True), last_chunk(2, b"", 0, 0)), KEPT_AND_LOST),
    ],
)  # fmt: skip
def test_wrong_content_under_a_right_checksum(
    chunks: tuple[bytes, ...], present: tuple[bool, ...]
) -> None:
    with pytest.raises(StreamError) as caught:
        Stream.load(assemble(*chunks))
    if caught.value.stream is None:
        assert not any(present)
    else:
        expected = np.full((2, len(present)), MISSING)
        width = min(len(present), 3)
        expected[:, :width] = np.where(present[:width], CODES[:, :width], MISSING)
        np.testing.assert_array_equal(caught.value.stream.codes, expected)


@pytest.mark.parametrize("rest", [b"\n", EXAMPLE])
def test_bytes_after_the_end_are_refused(rest: bytes) -> None:
    with pytest.raises(CorruptStreamError, match="after its end") as caught:
        Stream.load(EXAMPLE + rest)
    assert caught.value.stream is not None
    np.testing.assert_array_equal(caught.value.stream.codes, CODES)
    assert caught.value.stream.samples == SAMPLES


def test_the_codes_of_another_codec_are_refused() -> None:
    other = bytes.fromhex("ba9876543210")
    with pytest.raises(CodecMismatchError, match="load the codec") as caught:
        Stream.load(EXAMPLE, fingerprint=other)
    assert FINGERPRINT[:3].hex() in str(caught.value)
    assert other.hex() in str(caught.value)


def test_a_stream_without_its_prior_is_refused() -> None:
    with pytest.raises(PriorMismatchError, match="--prior"):
        Stream.load(CODED)
    with pytest.raises(PriorMismatchError, match="pass the one that wrote it"):
        Stream.load(CODED, prior=random_prior(scale=101.0))


def test_another_prior_is_noticed_even_where_its_name_agrees() -> None:
    other = random_prior(scale=99.0)
    other.fingerprint = PRIOR.fingerprint[:2] + b"else"
    with pytest.raises(StreamError) as caught:
        Stream.load(CODED, prior=other)
    assert caught.value.stream is None or caught.value.stream.frames == 0


def test_every_payload_that_is_not_canonical_is_refused() -> None:
    reader = StreamReader(io.BytesIO(CODED), prior=PRIOR)
    first = next(reader.intact_chunks())
    for payload in (
        first.payload + b"\0", first.payload + b"\1", first.payload[:-1],
        first.payload[:-1] + bytes([first.payload[-1] ^ 1]), b"\xff" * len(first.payload),
    ):  # fmt: skip
        chunk = data_chunk(0, payload, coded=True, stream_id=1)
        wrong = assemble(chunk, header=reader.header.to_bytes(), prior=PRIOR.fingerprint)
        try:
            Stream.load(wrong, prior=PRIOR)
        except StreamError as error:
            codes = None if error.stream is None else error.stream.codes
            lost = codes is None or codes.shape[1] == 0 or (codes == MISSING).all()
            # Another payload may be what other codes make; never what these make.
            assert lost or (codes != CODED_CODES[:, :10]).any()


@pytest.mark.parametrize("field", [0, 3, 5, 8, 9, 10])
def test_a_header_with_a_wrong_field_fails_its_own_checksum(field: int) -> None:
    damaged = bytearray(EXAMPLE)
    damaged[field + 1 if field == 0 else field] ^= 1
    with pytest.raises(StreamError):
        StreamHeader.from_bytes(bytes(damaged))
    again = with_header_checksum(EXAMPLE[:12])
    assert again == EXAMPLE[:14]
