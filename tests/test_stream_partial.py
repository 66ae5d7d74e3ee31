"""What precedes the damage of a stream, asked for in one call."""

import numpy as np
import pytest
from stream_helpers import CODES, EXAMPLE

from vqasr.errors import NotAStreamError, TruncatedStreamError
from vqasr.stream import stream_from_bytes


def test_partial_gives_the_intact_chunks() -> None:
    assert np.array_equal(stream_from_bytes(EXAMPLE, partial=True).codes, CODES)
    cut = EXAMPLE[:-3]
    with pytest.raises(TruncatedStreamError):
        stream_from_bytes(cut)
    assert np.array_equal(stream_from_bytes(cut, partial=True).codes, CODES)


def test_partial_does_not_invent_a_stream() -> None:
    with pytest.raises(NotAStreamError):
        stream_from_bytes(b"hello", partial=True)
