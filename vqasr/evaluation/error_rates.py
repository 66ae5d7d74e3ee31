"""Word and character error rates, after Whisper's English text normalisation."""

from dataclasses import dataclass
from functools import lru_cache

import jiwer
import numpy as np
import numpy.typing as npt
from whisper_normalizer.english import EnglishTextNormalizer

KINDS = ("substitute", "delete", "insert")


@lru_cache(maxsize=1)
def _normaliser() -> EnglishTextNormalizer:
    return EnglishTextNormalizer()


def normalise(text: str) -> str:
    """Apply Whisper's English normaliser, with its table of spellings."""
    return str(_normaliser()(text))


@dataclass(frozen=True)
class Scores:
    """Word errors of each utterance whose reference has words; all (utterances,) int64.

    Attributes:
        rows: index of each utterance in the data set; references without words are left out.
        words: number of words in the normalised reference.
        hypothesis_words: number of words in the normalised hypothesis.
        substitutions, deletions, insertions: as jiwer aligns them.
    """

    rows: npt.NDArray[np.int64]
    words: npt.NDArray[np.int64]
    hypothesis_words: npt.NDArray[np.int64]
    substitutions: npt.NDArray[np.int64]
    deletions: npt.NDArray[np.int64]
    insertions: npt.NDArray[np.int64]

    @property
    def errors(self) -> npt.NDArray[np.int64]:
        """Sum the three kinds of errors."""
        return self.substitutions + self.deletions + self.insertions


def score(references: list[str], hypotheses: list[str]) -> Scores:
    """Count the word errors of each utterance, after normalisation."""
    rows, kept_references, kept_hypotheses = _with_words(references, hypotheses)
    table = np.zeros((6, len(rows)), np.int64)
    if rows:
        aligned = jiwer.process_words(kept_references, kept_hypotheses)
        for column, row, reference, hypothesis, chunks in zip(
            table.T, rows, aligned.references, aligned.hypotheses, aligned.alignments, strict=True
        ):
            column[:3] = row, len(reference), len(hypothesis)
            for chunk in chunks:
                if chunk.type in KINDS:
                    column[3 + KINDS.index(chunk.type)] += max(
                        chunk.ref_end_idx - chunk.ref_start_idx,
                        chunk.hyp_end_idx - chunk.hyp_start_idx,
                    )
    return Scores(*table)


def character_error_rate(references: list[str], hypotheses: list[str]) -> float | None:
    """Return errors / characters of the reference, after normalisation; None without characters."""
    rows, kept_references, kept_hypotheses = _with_words(references, hypotheses)
    return float(jiwer.cer(kept_references, kept_hypotheses)) if rows else None


def word_errors(references: list[str], hypotheses: list[str]) -> tuple[int, int]:
    """Return the errors and the reference words of a corpus, after normalisation."""
    scores = score(references, hypotheses)
    return int(scores.errors.sum()), int(scores.words.sum())


def _with_words(
    references: list[str], hypotheses: list[str]
) -> tuple[list[int], list[str], list[str]]:
    """Normalise; return indices and texts of the references that have words."""
    pairs = zip(map(normalise, references), map(normalise, hypotheses), strict=True)
    kept = [(i, *pair) for i, pair in enumerate(pairs) if pair[0]]
    return [i for i, _, _ in kept], [r for _, r, _ in kept], [h for _, _, h in kept]
