"""Confidence intervals of word error rates: bootstrap over speakers or utterances.

Errors of one speaker are correlated, so intervals over utterances are too narrow. With few
speakers, however, a bootstrap over speakers is unreliable.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vqasr.evaluation.error_rates import Scores

FEWEST_SPEAKERS = 8
DRAWS = 2000
# A hypothesis with more than this many words per reference word counts as a hallucination.
HALLUCINATED = 2


def statistics(
    scores: Scores, pcm: Scores | None, speakers: Sequence[Any] | None
) -> dict[str, Any]:
    """Compute intervals and kinds of errors for a row of results.

    Args:
        scores: of a system.
        pcm: of uncompressed audio, over the same utterances; None if it was not measured.
        speakers: of all rows of the data set; None if unknown.

    Returns:
        wer_ci95 and delta_wer_ci95 ([low, high] or None), ci_over ("speakers", or "utterances"
        with fewer than 8 speakers), substitutions, deletions, insertions, and hallucinations:
        utterances with more than twice as many words as their reference.
    """
    groups, over = bootstrap_groups(scores, speakers)
    errors = [scores.errors] + ([scores.errors - pcm.errors] if pcm is not None else [])
    intervals = bootstrap_intervals(np.stack(errors), scores.words, groups)
    return {
        "wer_ci95": intervals[0],
        "delta_wer_ci95": intervals[1] if pcm is not None else None,
        "ci_over": over,
        "substitutions": int(scores.substitutions.sum()),
        "deletions": int(scores.deletions.sum()),
        "insertions": int(scores.insertions.sum()),
        "hallucinations": int((scores.hypothesis_words > HALLUCINATED * scores.words).sum()),
    }


def bootstrap_groups(
    scores: Scores, speakers: Sequence[Any] | None
) -> tuple[npt.NDArray[np.integer], str]:
    """Group utterances that are drawn together.

    Args:
        scores: of any system.
        speakers: see `statistics`.

    Returns:
        (utterances,) index of each utterance's group, and "speakers" or "utterances".
    """
    if speakers is not None:
        names, groups = np.unique([str(speakers[i]) for i in scores.rows], return_inverse=True)
        if len(names) >= FEWEST_SPEAKERS:
            return groups, "speakers"
    return np.arange(len(scores.rows)), "utterances"


def bootstrap_intervals(
    errors: npt.NDArray[np.integer],
    words: npt.NDArray[np.integer],
    groups: npt.NDArray[np.integer],
    seed: int = 0,
) -> list[list[float] | None]:
    """Return [low, high], the 95 % interval, for each measure of `bootstrap_rates`.

    Returns None instead of each interval if there are no words.
    """
    if not words.sum():
        return [None] * len(errors)
    return [
        [round(float(q), 5) for q in np.quantile(rates, (0.025, 0.975))]
        for rates in bootstrap_rates(errors, words, groups, seed)
    ]


def bootstrap_rates(
    errors: npt.NDArray[np.integer],
    words: npt.NDArray[np.integer],
    groups: npt.NDArray[np.integer],
    seed: int = 0,
) -> npt.NDArray[np.float64]:
    """Compute errors / words for bootstrap draws of whole groups.

    Args:
        errors: (measures, utterances); differences of two systems' errors give paired intervals.
        words: (utterances,).
        groups: (utterances,) from 0 to the number of groups - 1.
        seed: of the draws.

    Returns:
        (measures, draws), from the same draws for all measures.
    """
    count = int(groups.max()) + 1
    drawn = np.random.default_rng(seed).integers(count, size=(DRAWS, count))
    weights = np.stack([np.bincount(draw, minlength=count) for draw in drawn])
    total = weights @ np.bincount(groups, words, count)
    drawn_errors = [weights @ np.bincount(groups, measure, count) for measure in errors]
    return np.stack(drawn_errors) / np.maximum(total, 1)
