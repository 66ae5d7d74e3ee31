"""Codes that come in are recognised as they are offline with the same look-ahead."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vqasr.adapters.ctc_stream import CTCStream
from vqasr.errors import InvalidCodesError, RecogniserError
from vqasr.evaluation.error_rates import word_errors


def read(recogniser, codes: np.ndarray, cuts: list[int], **durations: float) -> str:
    stream = CTCStream(recogniser, **durations)
    said = [stream.push(part) for part in np.split(codes, sorted(cuts), axis=1)]
    text = "".join([*said, stream.finish()])
    assert text.strip() == stream.text
    return text


@pytest.fixture(scope="module")
def offline(ctc, codes) -> str:
    return read(ctc, codes, [])


@settings(max_examples=5, deadline=None)
@given(cuts=st.lists(st.integers(0, 130), max_size=6))
def test_the_text_does_not_depend_on_the_parts(ctc, codes, offline, cuts) -> None:
    assert read(ctc, codes, cuts) == offline


def test_one_chunk_is_the_whole(ctc, codes) -> None:
    assert read(ctc, codes, [], chunk_s=30).strip() == ctc.transcribe_codes(codes)[0]


def test_text_comes_before_the_end_and_is_nearly_that_of_the_whole(ctc, codes) -> None:
    stream = CTCStream(ctc)
    early = [stream.push(codes[:, i : i + 5]) for i in range(0, codes.shape[1], 5)]
    # Two seconds of speech and one of look-ahead.
    assert [bool(text) for text in early].index(True) == 75 // 5 - 1
    stream.finish()
    errors, words = word_errors(ctc.transcribe_codes(codes), [stream.text])
    assert errors <= 0.35 * words


def test_silence_and_wrong_codes(ctc, codes) -> None:
    assert CTCStream(ctc).finish() == ""
    lost = np.full((4, 300), -2)
    assert read(ctc, lost, [10, 20]).strip() == ""
    stream = CTCStream(ctc)
    stream.push(codes)
    with pytest.raises(InvalidCodesError, match="2 codebooks follow codes of 4"):
        stream.push(codes[:2])
    for wrong in (codes.astype(float), codes + 1024, codes[0]):
        with pytest.raises(InvalidCodesError):
            CTCStream(ctc).push(wrong)
    for name, values in (("chunk_s", (0.01, np.nan, np.inf)), ("context_s", (-1, np.nan, np.inf))):
        for value in values:
            with pytest.raises(RecogniserError, match="finite durations are needed"):
                CTCStream(ctc, **{name: value})
