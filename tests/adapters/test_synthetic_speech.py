"""Sentences for synthetic voices, cut from dictionaries and joined to utterances."""

import sys

import numpy as np
import sentences
import synthetic_speech as speech
from datasets import Dataset

WEBSTER = """
Affect \\Af*fect"\\, v. t. [imp. & p. p. {Affected}.]

   1. To act upon; to produce an effect or change upon. [Obs.]
      [1913 Webster]

            The climate affected their health and spirits.
                                                  --Macaulay.
      [1913 Webster]

            In 1750 he was a Dr. of law. --Somebody.
"""


def test_sentences_of_dictionaries(tmp_path) -> None:
    quotations, definitions = sentences.of_webster(WEBSTER)
    assert quotations == {"The climate affected their health and spirits."}
    assert definitions == {"to produce an effect or change upon."}
    for kind in ("noun", "verb", "adj", "adv"):
        (tmp_path / f"data.{kind}").write_text("no gloss\n")
    gloss = 'the act (of men) of bringing together; too short; "they talked until morning"; "at 5"'
    (tmp_path / "data.noun").write_text(f"01 03 n | {gloss}\n")
    examples, glosses = sentences.of_wordnet(tmp_path)
    assert examples == {"they talked until morning"}
    assert glosses == {"the act of bringing together"}


BOOK = """
"It is a truth--universally
acknowledged," said Mrs. Bennet; he would not wait.

CHAPTER I

In 1813 nobody did. I don't know _that_, Mr. Bennet. _That_ is all that I know of the matter. No.
"""


def test_sentences_of_books(tmp_path, monkeypatch) -> None:
    """Titles are written as they are spoken; what a transcript shares is left out."""
    kept = "It is a truth universally acknowledged, said Missus Bennet; he would not wait."
    found = {
        kept,
        "That is all that I know of the matter.",
        "I don't know that, Mister Bennet.",
    }
    assert sentences.of_book(BOOK) == found
    book, data = tmp_path / "book.txt", tmp_path / "test.parquet"
    book.write_text(BOOK)
    rows = [{"text": "THAT IS all that, I know!"}, {"text": None}]
    rows.append(
        {"text": "they don\u2019t know that, Mr. Bennet; I don\u2019t know that, Mr Bennet"}
    )
    Dataset.from_list(rows).to_parquet(data)
    out = tmp_path / "out"
    command = ["sentences.py", "--out", out, "--books", book, "--without", data]
    monkeypatch.setattr(sys, "argv", [str(part) for part in command])
    sentences.main()
    assert (out / "books.txt").read_text().splitlines() == [
        min(found - {"I don't know that, Mister Bennet."})
    ]


def test_utterances_hold_every_sentence_once(tmp_path) -> None:
    lines = [f"{letter * 3} is a sentence" for letter in "abcdefghij"]
    path = tmp_path / "lines.txt"
    path.write_text("\n\n".join(lines))
    spoken = list(speech.utterances([str(path)], np.random.default_rng(0)))
    assert sorted(s for text in spoken for s in text.removesuffix(".").split(". ")) == lines
    assert 1 < len(spoken) < len(lines)
