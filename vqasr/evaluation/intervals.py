"""How sure a word error rate is: bootstrap over speakers (or utterances), paired for differences.

Utterances of one speaker go wrong together, so that intervals over utterances are too narrow; with
few speakers, on the other hand, an interval over speakers says nothing.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vqasr.evaluation.error_rates import Scores

FEWEST_SPEAKERS = 8
DRAWS = 2000
# A hypothesis with more than so many words for each that was said is made up.
HALLUCINATED = 2


def statistics(
    scores: Scores, pcm: Scores | None, speakers: Sequence[Any] | None, seed: int = 0
) -> dict[str, Any]:
    """What goes beside a word error rate.

    Args:
        scores: of a system.
        pcm: of uncompressed audio, over the same utterances; None where that was not run.
        speakers: of all rows of the data set; None where nobody knows.
        seed: of the draws.

    Returns:
        wer_ci95 and delta_wer_ci95 ([low, high] or None), ci_over ("speakers", or "utterances"
        where there are fewer than 8 speakers), substitutions, deletions, insertions, and
        hallucinations: utterances with more than twice the words that were said.
    """
    groups, over = drawn_groups(scores, speakers)
    errors = [scores.errors] + ([scores.errors - pcm.errors] if pcm is not None else [])
    intervals = bootstrap_intervals(np.stack(errors), scores.words, groups, seed)
    return {
        "wer_ci95": intervals[0],
        "delta_wer_ci95": intervals[1] if pcm is not None else None,
        "ci_over": over,
        "substitutions": int(scores.substitutions.sum()),
        "deletions": int(scores.deletions.sum()),
        "insertions": int(scores.insertions.sum()),
        "hallucinations": int((scores.heard > HALLUCINATED * scores.words).sum()),
    }


def drawn_groups(
    scores: Scores, speakers: Sequence[Any] | None
) -> tuple[npt.NDArray[np.integer], str]:
    """What is drawn together.

    Args:
        scores: of any system.
        speakers: as `statistics` takes them.

    Returns:
        (utterances,) number of each utterance's group, and what a group is.
    """
    if speakers is not None:
        names, found = np.unique([str(speakers[i]) for i in scores.rows], return_inverse=True)
        if len(names) >= FEWEST_SPEAKERS:
            return found, "speakers"
    return np.arange(len(scores.rows)), "utterances"


def bootstrap_intervals(
    errors: npt.NDArray[np.integer],
    words: npt.NDArray[np.integer],
    groups: npt.NDArray[np.integer],
    seed: int = 0,
) -> list[list[float] | None]:
    """95 % intervals of errors / words when whole groups are drawn anew; see `bootstrap_rates`.

    Returns:
        [low, high] of each measure; None where there are no words.
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
    """Errors / words when whole groups are drawn anew.

    Args:
        errors: (measures, utterances); differences of two systems' errors give paired intervals.
        words: (utterances,).
        groups: (utterances,) 0 to groups - 1.
        seed: of the draws.

    Returns:
        (measures, draws), of the same draws for all measures.
    """
    count = int(groups.max()) + 1
    drawn = np.random.default_rng(seed).integers(count, size=(DRAWS, count))
    weights = np.stack([np.bincount(draw, minlength=count) for draw in drawn])
    total = weights @ np.bincount(groups, words, count)
    drawn_errors = [weights @ np.bincount(groups, measure, count) for measure in errors]
    return np.stack(drawn_errors) / np.maximum(total, 1)
