"""Tokens of CTC, letters and word pieces."""

import json

import pytest
import train_ctc as recipe
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, Wav2Vec2CTCTokenizer

from vqasr.adapters.ctc_tokens import CTCTokens
from vqasr.adapters.segments import Segment

TEXTS = ["the cat sat on the mat", "a cat and the other cat's hat", "that is the end of it"]


@pytest.fixture(scope="module", params=["letters", "pieces"])
def tokens(request, tmp_path_factory) -> CTCTokens:
    folder = tmp_path_factory.mktemp("tokenizer")
    if request.param == "pieces":
        made = recipe.make_pieces(TEXTS, 40)
    else:
        vocabulary = {letter: i for i, letter in enumerate(recipe.LETTERS)}
        (folder / "vocab.json").write_text(json.dumps(vocabulary))
        made = Wav2Vec2CTCTokenizer(folder / "vocab.json", bos_token=None, eos_token=None)
    made.save_pretrained(folder)
    return CTCTokens(AutoTokenizer.from_pretrained(folder))


@given(texts=st.lists(st.sampled_from(" ".join(TEXTS).split()), min_size=1), blanks=st.data())
def test_what_is_spelled_is_read(tokens, texts, blanks) -> None:
    """Tokens with blanks between them and repetitions, as a model writes them."""
    text = " ".join(texts)
    ids = []
    for token in tokens.tokenizer(text).input_ids:
        gap = 1 if ids and ids[-1] == token else 0
        ids += [tokens.blank] * blanks.draw(st.integers(gap, 2))
        ids += [token] * blanks.draw(st.integers(1, 3))
    assert tokens.tokenizer.decode(ids) == text
    words = tokens.words(tokens.spans(ids), 0.5)
    assert [word.text for word in words] == texts
    times = [time for word in words for time in (word.start_s, word.end_s)]
    assert times == sorted(times)
    assert times[-1] <= 0.5 * len(ids)


def test_words_are_spelled_or_unknown(tokens) -> None:
    spelled = tokens.of_word("that")
    assert "".join(spelled).removeprefix("\u2581") == "that"
    assert tokens.of_word("caf\u00e9") is None


def test_words_of_another_source(tokens) -> None:
    """The words of a search take the place of what the tokens spell; one more is left out."""
    ids = tokens.tokenizer("the cat").input_ids
    (word,) = tokens.words(tokens.spans(ids), 1.0, ["The"])
    assert word.text == "The"
    assert 0 <= word.start_s < word.end_s
    assert isinstance(word, Segment)
