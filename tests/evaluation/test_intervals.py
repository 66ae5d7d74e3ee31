"""Confidence intervals and kinds of errors."""

import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqasr.evaluation.error_rates import score, word_errors
from vqasr.evaluation.intervals import bootstrap_intervals, statistics

WORDS = st.lists(st.sampled_from(["red", "green", "blue", "black", "white"]), max_size=8).map(
    " ".join
)


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=6))
def test_scores_of_utterances_add_up_to_the_corpus(pairs) -> None:
    references, hypotheses = [r for r, _ in pairs], [h for _, h in pairs]
    scores = score(references, hypotheses)
    assert scores.rows.tolist() == [i for i, r in enumerate(references) if r]
    if not len(scores.rows):
        assert word_errors(references, hypotheses) == (0, 0)
        return
    kept = [(r, h) for r, h in pairs if r]
    corpus = jiwer.process_words([r for r, _ in kept], [h for _, h in kept])
    assert scores.substitutions.sum() == corpus.substitutions
    assert scores.deletions.sum() == corpus.deletions
    assert scores.insertions.sum() == corpus.insertions
    assert scores.words.tolist() == [len(r.split()) for r, _ in kept]
    assert scores.hypothesis_words.tolist() == [len(h.split()) for _, h in kept]


def test_intervals_cover_the_truth() -> None:
    """About 95 % of the intervals of 200 corpora contain the known error rate."""
    rng = np.random.default_rng(0)
    covered = 0
    for i in range(200):
        groups = np.repeat(np.arange(40), 5)
        rate = np.clip(rng.normal(0.2, 0.05, 40), 0, 1)[groups]  # speakers differ
        errors = rng.binomial(20, rate)
        ((low, high),) = bootstrap_intervals(errors[None], np.full(200, 20), groups, seed=i)
        covered += low <= 0.2 <= high
    assert 180 <= covered <= 199


def test_few_speakers_fall_back_to_utterances() -> None:
    references = ["red green blue black"] * 40
    hypotheses = ["red green blue black" if i % 4 else "red grin blue" for i in range(40)]
    scores = score(references, hypotheses)
    many = statistics(scores, None, [f"s{i % 10}" for i in range(40)])
    few = statistics(scores, None, ["a", "b"] * 20)
    assert (many["ci_over"], few["ci_over"]) == ("speakers", "utterances")
    assert statistics(scores, None, None)["wer_ci95"] == few["wer_ci95"]
    assert many["substitutions"] == many["deletions"] == 10
    assert many["delta_wer_ci95"] is None


def test_differences_are_paired() -> None:
    """Two systems with the same errors differ by 0, however wide their own intervals are."""
    references = [f"word {'more ' * (i % 5)}" for i in range(50)]
    hypotheses = [r if i % 3 else "" for i, r in enumerate(references)]
    scores = score(references, hypotheses)
    same = statistics(scores, scores, None)
    assert same["delta_wer_ci95"] == [0, 0]
    assert same["wer_ci95"][1] - same["wer_ci95"][0] > 0.1


def test_hallucinations() -> None:
    scores = score(["red", "blue words"], ["red and red and red", "blue whole words more"])
    assert statistics(scores, None, None)["hallucinations"] == 1


def test_references_without_words() -> None:
    assert statistics(score([""], ["x"]), None, None)["wer_ci95"] is None
    with pytest.raises(ValueError, match="zip"):
        score(["a"], [])
