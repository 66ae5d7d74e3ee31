"""Trimming and joining streams, and losing chunks of them."""

from dataclasses import replace

import numpy as np
import pytest
from prior_helpers import CODEC, PRIOR, likely_codes
from stream_helpers import FIELDS, coded_bytes, stream_to_bytes

from vqasr.errors import InvalidCodesError, StreamError
from vqasr.evaluation.packet_loss import ChunkLoss, drop_chunks
from vqasr.grid import MISSING
from vqasr.stream.stream import Stream

CODES = likely_codes(PRIOR, 3, 60)


def write(codes: np.ndarray, samples: int, chunk_frames: int = 10) -> bytes:
    return coded_bytes(codes, samples, chunk_frames=chunk_frames)


def load(data: bytes) -> Stream:
    return Stream.load(data, prior=PRIOR)


def join(parts: list[bytes]) -> bytes:
    return Stream.join([load(part) for part in parts]).to_bytes()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_trimming_gives_what_the_encoder_would_have_written(n: int) -> None:
    samples = 60 * 640 - 5
    assert load(write(CODES, samples)).trim(n).to_bytes() == write(CODES[:n], samples)


@pytest.mark.parametrize("n", [0, 4, -1])
def test_trimming_to_what_is_not_there(n: int) -> None:
    with pytest.raises(InvalidCodesError, match="3 codebooks"):
        load(write(CODES, 60 * 640)).trim(n)


def test_cutting_and_joining_again() -> None:
    whole = load(write(CODES, 60 * 640 - 5))
    parts = [whole.cut(0, 1.0), whole.cut(1.0, 1.04), whole.cut(1.04)]
    assert [part.frames for part in parts] == [25, 1, 34]
    assert [part.start_frame for part in parts] == [0, 25, 26]
    assert [part.samples for part in parts] == [25 * 640, 640, 34 * 640 - 5]
    assert Stream.join(parts).to_bytes() == whole.to_bytes() == write(CODES, 60 * 640 - 5)
    assert whole.cut(2.0, 2.0).frames == 0
    with pytest.raises(StreamError, match="start_s=2"):
        whole.cut(2.0, 1.0)


def test_a_stream_is_shown_in_one_line() -> None:
    shown = repr(load(write(CODES, 60 * 640 - 5)))
    assert shown == f"Stream(2.40 s, num_quantizers=3, frames=60, codec={CODEC[:3].hex()})"


def test_joining() -> None:
    parts = [write(CODES[:, :23], 23 * 640 - 9), write(CODES[:, 23:], 37 * 640 - 5, 25)]
    assert join(parts) == write(CODES, 60 * 640 - 5)
    assert join(parts[:1]) == parts[0]


def test_many_short_streams_become_one_in_chunks_of_10_s() -> None:
    long = np.tile(CODES, 13)  # 31.2 s
    short = [write(CODES, 60 * 640, 750)] * 13
    joined = join(short)
    assert load(joined).header.chunk_frames == 250
    assert joined == write(long, 780 * 640, 250)
    assert join(short[:1]) == short[0]
    chosen = [write(CODES[:, :5], 5 * 640, 25)] * 10  # somebody wants 1 s
    assert load(join(chosen)).header.chunk_frames == 25


def test_joining_what_does_not_belong_together() -> None:
    one = write(CODES, 60 * 640)
    with pytest.raises(StreamError, match="vqasr trim"):
        join([one, write(CODES[:2], 60 * 640)])
    with pytest.raises(StreamError, match="no streams"):
        Stream.join([])


def test_lost_chunks_leave_gaps_where_they_were() -> None:
    data = write(CODES, 60 * 640 - 5)
    rng = np.random.default_rng(3)
    assert drop_chunks(data, ChunkLoss(0), rng, PRIOR) == data
    seen = set()
    for _ in range(20):
        stream = Stream.load(
            drop_chunks(data, ChunkLoss(30), rng, PRIOR), partial=True, prior=PRIOR
        )
        frames = stream.frames
        lost = stream.codes[0] == MISSING
        expected = np.where(lost, MISSING, CODES[:, :frames])
        np.testing.assert_array_equal(stream.codes, expected)
        assert (lost.reshape(-1, 10).min(1) == lost.reshape(-1, 10).max(1)).all()
        seen.add(int(lost.sum()))
    assert len(seen) > 2
    nothing = Stream.load(drop_chunks(data, ChunkLoss(100), rng, PRIOR), partial=True, prior=PRIOR)
    assert nothing.frames == nothing.samples == 0


def test_gaps_cannot_be_written() -> None:
    lossy = replace(Stream.load(write(CODES, 60 * 640), prior=PRIOR), samples=60 * 640)
    lossy.codes[:, 7:9] = -2
    with pytest.raises(StreamError, match="2 of 60 frames were lost"):
        lossy.to_bytes()
    assert lossy.cut(0, 0.28).to_bytes()


def test_the_same_seed_loses_the_same_chunks() -> None:
    data = write(CODES, 60 * 640 - 5)
    one, again = (
        drop_chunks(data, ChunkLoss(50), np.random.default_rng(1), PRIOR) for _ in range(2)
    )
    assert one == again != data


def test_a_damaged_stream_cannot_be_thinned_out() -> None:
    with pytest.raises(StreamError):
        drop_chunks(write(CODES, 60 * 640)[:-1], ChunkLoss(10), np.random.default_rng(0), PRIOR)


def test_streams_without_a_prior_stay_without() -> None:
    raw = stream_to_bytes(CODES[:2, :3], **FIELDS)
    trimmed = Stream.load(Stream.load(raw).trim(1).to_bytes())
    assert not any(trimmed.header.prior_fingerprint)
    np.testing.assert_array_equal(trimmed.codes, CODES[:1, :3])
