"""Trimming and joining streams, and losing chunks of them."""

import numpy as np
import pytest
from prior_helpers import CODEC, PRIOR, likely_codes
from stream_helpers import FIELDS
from test_stream_format1 import format_1

from vqasr.errors import InvalidCodesError, StreamError
from vqasr.evaluation.packet_loss import drop_chunks
from vqasr.stream.edit import cat_streams, trim_stream
from vqasr.stream.whole import MISSING, stream_from_bytes, stream_to_bytes

CODES = likely_codes(PRIOR, 3, 60)


def write(codes: np.ndarray, samples: int, chunk_frames: int = 10) -> bytes:
    return stream_to_bytes(
        codes, samples=samples, fingerprint=CODEC, bits_per_code=4, hop_length=640,
        chunk_frames=chunk_frames, prior=PRIOR,
    )  # fmt: skip


@pytest.mark.parametrize("n", [1, 2, 3])
def test_trimming_gives_what_the_encoder_would_have_written(n: int) -> None:
    samples = 60 * 640 - 5
    assert trim_stream(write(CODES, samples), n, PRIOR) == write(CODES[:n], samples)


@pytest.mark.parametrize("n", [0, 4, -1])
def test_trimming_to_what_is_not_there(n: int) -> None:
    with pytest.raises(InvalidCodesError, match="3 codebooks"):
        trim_stream(write(CODES, 60 * 640), n, PRIOR)


def test_joining() -> None:
    parts = [write(CODES[:, :23], 23 * 640 - 9), write(CODES[:, 23:], 37 * 640 - 5, 25)]
    assert cat_streams(parts, PRIOR) == write(CODES, 60 * 640 - 5)
    assert cat_streams(parts[:1], PRIOR) == parts[0]


def test_many_short_streams_become_one_in_chunks_of_10_s() -> None:
    long = np.tile(CODES, 13)  # 31.2 s
    short = [write(CODES, 60 * 640, 750)] * 13
    joined = cat_streams(short, PRIOR)
    assert stream_from_bytes(joined, prior=PRIOR).header.chunk_frames == 250
    assert joined == write(long, 780 * 640, 250)
    assert cat_streams(short[:1], PRIOR) == short[0]
    chosen = [write(CODES[:, :5], 5 * 640, 25)] * 10  # somebody wants 1 s
    assert stream_from_bytes(cat_streams(chosen, PRIOR), prior=PRIOR).header.chunk_frames == 25


def test_joining_what_does_not_belong_together() -> None:
    one = write(CODES, 60 * 640)
    with pytest.raises(StreamError, match="vqasr trim"):
        cat_streams([one, write(CODES[:2], 60 * 640)], PRIOR)
    with pytest.raises(StreamError, match="no streams"):
        cat_streams([])
    with pytest.raises(StreamError, match=r"stream 2 of 2: .* before its last chunk"):
        cat_streams([one, one[:-1]], PRIOR)


def test_lost_chunks_leave_gaps_where_they_were() -> None:
    data = write(CODES, 60 * 640 - 5)
    rng = np.random.default_rng(3)
    assert drop_chunks(data, 0.0, rng, PRIOR) == data
    seen = set()
    for _ in range(20):
        stream = stream_from_bytes(drop_chunks(data, 0.3, rng, PRIOR), partial=True, prior=PRIOR)
        frames = stream.frames
        lost = stream.codes[0] == MISSING
        expected = np.where(lost, MISSING, CODES[:, :frames])
        np.testing.assert_array_equal(stream.codes, expected)
        assert (lost.reshape(-1, 10).min(1) == lost.reshape(-1, 10).max(1)).all()
        seen.add(int(lost.sum()))
    assert len(seen) > 2
    nothing = stream_from_bytes(drop_chunks(data, 1.0, rng, PRIOR), partial=True, prior=PRIOR)
    assert nothing.frames == nothing.samples == 0


def test_the_same_seed_loses_the_same_chunks() -> None:
    data = write(CODES, 60 * 640 - 5)
    one, again = (drop_chunks(data, 0.5, np.random.default_rng(1), PRIOR) for _ in range(2))
    assert one == again != data


def test_a_damaged_stream_cannot_be_thinned_out() -> None:
    with pytest.raises(StreamError):
        drop_chunks(write(CODES, 60 * 640)[:-1], 0.1, np.random.default_rng(0), PRIOR)


def test_streams_without_a_prior_stay_without() -> None:
    raw = stream_to_bytes(CODES[:2, :3], **FIELDS)
    trimmed = stream_from_bytes(trim_stream(raw, 1))
    assert not any(trimmed.header.prior_fingerprint)
    np.testing.assert_array_equal(trimmed.codes, CODES[:1, :3])


def test_a_stream_of_format_1_with_many_codebooks_can_be_trimmed() -> None:
    codes = np.arange(40).reshape(20, 2)
    old = format_1(codes, 1000, b"oldold", 10, 640, 2)
    trimmed = stream_from_bytes(trim_stream(old, 4))
    np.testing.assert_array_equal(trimmed.codes, codes[:4])
    assert (trimmed.header.version, trimmed.samples) == (3, 1000)
    with pytest.raises(StreamError, match="format 1"):
        drop_chunks(old, 0.5, np.random.default_rng(0))
