"""Word error rates."""

from functools import lru_cache

import jiwer
from whisper_normalizer.english import EnglishTextNormalizer


@lru_cache(maxsize=1)
def _normaliser() -> EnglishTextNormalizer:
    return EnglishTextNormalizer()


def normalise(text: str) -> str:
    """Whisper's English normaliser, with its map of spellings."""
    return str(_normaliser()(text))


def word_errors(references: list[str], hypotheses: list[str]) -> tuple[int, int]:
    """Errors and reference words of a corpus, after normalisation.

    Utterances whose reference is empty after normalisation are left out, since a rate over no
    words says nothing.
    """
    pairs = [
        (reference, normalise(hypothesis))
        for reference, hypothesis in zip(map(normalise, references), hypotheses, strict=True)
        if reference
    ]
    if not pairs:
        return 0, 0
    counts = jiwer.process_words([r for r, _ in pairs], [h for _, h in pairs])
    errors = counts.substitutions + counts.deletions + counts.insertions
    return errors, counts.hits + counts.substitutions + counts.deletions
