"""Word error rates."""

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
    """Whisper's English normaliser, with its map of spellings."""
    return str(_normaliser()(text))


@dataclass(frozen=True)
class Scores:
    """Word errors of each utterance that has words; all (utterances,) int64.

    Attributes:
        rows: which of the references they are: those without words are left out, since a rate over
            no words says nothing.
        words: in the reference, after normalisation.
        heard: words in the hypothesis.
        substitutions, deletions, insertions: as jiwer aligns them.
    """

    rows: npt.NDArray[np.int64]
    words: npt.NDArray[np.int64]
    heard: npt.NDArray[np.int64]
    substitutions: npt.NDArray[np.int64]
    deletions: npt.NDArray[np.int64]
    insertions: npt.NDArray[np.int64]

    @property
    def errors(self) -> npt.NDArray[np.int64]:
        """Of all three kinds."""
        return self.substitutions + self.deletions + self.insertions


def score(references: list[str], hypotheses: list[str]) -> Scores:
    """Compare texts utterance by utterance, after normalisation."""
    pairs = [
        (i, reference, normalise(hypothesis))
        for i, (reference, hypothesis) in enumerate(
            zip(map(normalise, references), hypotheses, strict=True)
        )
        if reference
    ]
    table = np.zeros((6, len(pairs)), np.int64)
    if pairs:
        aligned = jiwer.process_words([r for _, r, _ in pairs], [h for _, _, h in pairs])
        for column, (i, _, _), reference, hypothesis, chunks in zip(
            table.T, pairs, aligned.references, aligned.hypotheses, aligned.alignments, strict=True
        ):
            column[:3] = i, len(reference), len(hypothesis)
            for chunk in chunks:
                if chunk.type in KINDS:
                    said = chunk.ref_end_idx - chunk.ref_start_idx
                    heard = chunk.hyp_end_idx - chunk.hyp_start_idx
                    column[3 + KINDS.index(chunk.type)] += max(said, heard)
    return Scores(*table)


def character_error_rate(references: list[str], hypotheses: list[str]) -> float | None:
    """Wrong characters for each that was said, after normalisation; None where nothing was."""
    pairs = [
        (said, normalise(heard))
        for said, heard in zip(map(normalise, references), hypotheses, strict=True)
        if said
    ]
    if not pairs:
        return None
    return float(jiwer.cer([said for said, _ in pairs], [heard for _, heard in pairs]))


def word_errors(references: list[str], hypotheses: list[str]) -> tuple[int, int]:
    """Errors and reference words of a corpus, after normalisation."""
    scores = score(references, hypotheses)
    return int(scores.errors.sum()), int(scores.words.sum())
