"""Texts of CTC tokens, letters or word pieces, and the words that they spell."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from vqasr.adapters.segments import Segment

# Begins the pieces that begin a word (Kudo and Richardson, arXiv 1808.06226).
WORD_START = "\u2581"


class CTCTokens:
    """Texts of the tokens of a CTC model.

    Args:
        tokenizer: of letters with a word delimiter (Wav2Vec2), or of word pieces (Parakeet).

    Attributes:
        tokenizer: as given.
        names: of each id.
        texts: of each id; a space stands where a word begins or ends. Special tokens have none.
        blank: id of the blank.
        space: id of the space between words; None if pieces begin words.
    """

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        vocabulary = tokenizer.get_vocab()
        self.names = sorted(vocabulary, key=vocabulary.__getitem__)
        delimiter = getattr(tokenizer, "word_delimiter_token", None)
        self.space: int | None = None if delimiter is None else vocabulary[delimiter]
        self.blank: int = tokenizer.pad_token_id
        special = set(tokenizer.all_special_tokens)
        self.texts = [
            " " if name == delimiter else "" if name in special else name.replace(WORD_START, " ")
            for name in self.names
        ]

    def of_word(self, word: str) -> list[str] | None:
        """Return the names of the tokens that spell a word; None if it cannot be spelled."""
        names = [*word] if self.space is not None else self.tokenizer.tokenize(word)
        known = all(name in self.tokenizer.get_vocab() for name in names)
        return names if known and self.tokenizer.unk_token not in names else None

    def spans(self, ids: Iterable[int]) -> Iterator[tuple[int, int, str]]:
        """Yield first index, index after the last one, and text of each token but the blank."""
        for token, group in groupby(enumerate(ids), key=lambda pair: pair[1]):
            places = [place for place, _ in group]
            if token != self.blank:
                yield places[0], places[-1] + 1, self.texts[token]

    @staticmethod
    def words(
        spans: Iterable[tuple[int, int, str]], frame_s: float, texts: Sequence[str] | None = None
    ) -> list[Segment]:
        """Join tokens to words with times.

        Args:
            spans: of the tokens, as above.
            frame_s: seconds of an index.
            texts: of the words, instead of what the tokens spell; a word beyond them is left out.
        """
        found: list[list[tuple[int, int, str]]] = []
        inside = False
        for start, end, text in spans:
            if text.startswith(" "):
                inside = False
            if not text.strip():
                continue
            if not inside:
                found.append([])
            found[-1].append((start, end, text))
            inside = True
        spelled = ["".join(text for *_, text in word).strip() for word in found]
        return [
            Segment(frame_s * word[0][0], frame_s * word[-1][1], text)
            for word, text in zip(found, spelled if texts is None else texts, strict=False)
        ]
