"""Codes of the fundamental frequency: read what was written, and refuse everything else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqasr.entropy.pitch import check_pitch, decode_pitch, encode_pitch, most_pitch_bytes
from vqasr.errors import InvalidCodesError

KNOWN = "b55a49"
PITCHES = st.lists(st.integers(0, 74), max_size=80).map(lambda p: np.array(p, np.int64))


@given(PITCHES)
def test_read_what_was_written(pitch: np.ndarray) -> None:
    data = encode_pitch(pitch)
    assert len(data) <= most_pitch_bytes(len(pitch))
    again = decode_pitch(data, len(pitch))
    assert again is not None
    assert again.tolist() == pitch.tolist()


@given(st.binary(max_size=40), st.integers(0, 60))
def test_bytes_have_one_meaning(data: bytes, frames: int) -> None:
    pitch = decode_pitch(data, frames)
    assert pitch is None or encode_pitch(pitch) == data


def test_a_known_track() -> None:
    assert encode_pitch(np.array([0, 0, 30, 31, 31, 0, 28])).hex() == KNOWN
    assert len(encode_pitch(np.zeros(250, np.int64))) <= 7


@pytest.mark.parametrize(
    "wrong", [np.array([75]), np.array([-1]), np.array([0.5]), np.zeros(2, int)]
)
def test_refused(wrong: np.ndarray) -> None:
    with pytest.raises(InvalidCodesError, match="pitch"):
        check_pitch(wrong, 1)
