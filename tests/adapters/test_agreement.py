"""Text that becomes certain by agreement: the same for every way of pushing, and as offline."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vqasr.adapters.agreement import AgreementStream, agreeing, continuation
from vqasr.compression.compress import compress
from vqasr.errors import InvalidCodesError, RecogniserError
from vqasr.evaluation.error_rates import word_errors


def read(recogniser, codes: np.ndarray, cuts: list[int], update_s: float = 1.0) -> str:
    stream = AgreementStream(recogniser, update_s=update_s)
    said = [stream.push(part) for part in np.split(codes, sorted(cuts), axis=1)]
    text = "".join([*said, stream.finish()])
    assert text == stream.text
    return text


@settings(max_examples=2, deadline=None)
@given(cuts=st.lists(st.integers(0, 130), max_size=6))
def test_the_text_does_not_depend_on_the_parts(ctc, codes, cuts) -> None:
    assert read(ctc, codes, cuts) == read(ctc, codes, [])


def test_words_come_before_the_end_and_never_change(recogniser, codes) -> None:
    """With Whisper; the last words are those of the whole clip."""
    stream = AgreementStream(recogniser)
    seen = []
    for i in range(0, codes.shape[1], 20):
        stream.push(codes[:, i : i + 20])
        seen.append(stream.text)
    stream.finish()
    assert seen[3]  # after 3.2 s
    assert all(stream.text.startswith(text) for text in seen)
    assert stream.text.split()[-2:] == recogniser.transcribe_codes(codes)[0].split()[-2:]


def test_long_speech_is_cut_as_offline(ctc, codec, clips) -> None:
    samples = np.concatenate([clip.samples for clip in clips[:9]])
    codes = compress(samples, codec=codec, num_quantizers=4).codes
    assert codes.shape[1] > 750 + 13
    offline = ctc.transcribe_codes(codes)[0]
    errors, words = word_errors([offline], [read(ctc, codes, [], update_s=15.0)])
    assert errors <= 0.03 * words


def test_agreement() -> None:
    said = ["He", "said:", "so", "it", "is"]
    assert agreeing(["he", "said", "so"], said) == 3
    assert agreeing([], said) == 0
    assert agreeing(["She", "said", "so"], said) == 0
    assert continuation(["he", "said"], said) == 2
    assert continuation([], said) == 0
    assert continuation(["well", "he", "said"], said) == 2  # a word was left out
    assert continuation(["he", "said"], ["oh", "he", "said", "so"]) == 3  # or added
    assert continuation(["so", "it", "is"], []) == 0


def test_refused(ctc, codes) -> None:
    assert AgreementStream(ctc).finish() == ""
    assert read(ctc, np.full((4, 300), -2), []) == ""
    for update_s in (0.0, -1.0, 31.0, float("nan")):
        with pytest.raises(RecogniserError, match="update_s="):
            AgreementStream(ctc, update_s=update_s)
    stream = AgreementStream(ctc)
    stream.push(codes)
    with pytest.raises(InvalidCodesError, match="codes of 2 codebooks follow codes of 4"):
        stream.push(codes[:2])
    with pytest.raises(InvalidCodesError, match="range"):
        stream.push(codes + 2000)
