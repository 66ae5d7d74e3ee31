"""Compare vqasr's bitrate with that of other codecs at equal word error rate."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vqasr.evaluation.bd_rate import rate_ratio, ratio_interval
from vqasr.evaluation.error_rates import score
from vqasr.evaluation.intervals import bootstrap_groups, bootstrap_rates
from vqasr.evaluation.neural import PREFIX as NEURAL
from vqasr.evaluation.text_floor import TEXT_FLOORS

OURS = "vqasr"
DECODED = ":audio"


def family(system: str) -> str:
    """Return the name of a system's curve: "opus" for all rates of Opus, and so on."""
    if system.startswith(NEURAL):
        return system.partition("@")[0]
    return system.partition(":")[0] + (", decoded" if system.endswith(DECODED) else "")


def compare_rates(
    rows: list[dict[str, Any]],
    references: list[str],
    hypotheses: list[list[str]],
    speakers: Sequence[Any] | None,
) -> list[dict[str, Any]]:
    """Compare vqasr's curve (codes read directly) with that of every other family of systems.

    Args:
        rows: results of the systems.
        references: transcripts of the data set.
        hypotheses: of each row, in the order of the references.
        speakers: of each reference, see `statistics`.

    Returns:
        For each family: "family", "rate_ratio" (its bits / vqasr's bits, see `rate_ratio`; None if
        the curves do not meet) and "rate_ratio_ci95" (see `ratio_interval`). Empty if vqasr or all
        others are missing.
    """
    coded = [
        (row, texts)
        for row, texts in zip(rows, hypotheses, strict=True)
        if row["coded_bps"] and row["wer"] is not None and _has_curve(row["system"])
    ]
    members: dict[str, list[int]] = {}
    for i, (row, _) in enumerate(coded):
        members.setdefault(family(row["system"]), []).append(i)
    ours = members.pop(OURS, [])
    if not ours:
        return []
    scores = [score(references, texts) for _, texts in coded]
    groups, _ = bootstrap_groups(scores[0], speakers)
    draws = bootstrap_rates(np.stack([s.errors for s in scores]), scores[0].words, groups)
    bps = np.array([row["coded_bps"] for row, _ in coded])
    wer = np.array([row["wer"] for row, _ in coded])
    ratios = []
    for name, theirs in members.items():
        ratio = rate_ratio(bps[ours], wer[ours], bps[theirs], wer[theirs])
        interval = ratio_interval(bps[ours], draws[ours].T, bps[theirs], draws[theirs].T)
        rounded = None if ratio is None else round(ratio, 3)
        ratios.append({"family": name, "rate_ratio": rounded, "rate_ratio_ci95": interval})
    return ratios


def ratios_table(ratios: list[dict[str, Any]]) -> str:
    """Format the result of `compare_rates` as Markdown; empty if there is none."""
    if not ratios:
        return ""
    lines = ["| codec | bits per bit of vqasr, at equal WER | 95 % |", "|---|---|---|"]
    for row in ratios:
        ratio, interval = row["rate_ratio"], row["rate_ratio_ci95"]
        value = "the curves do not meet" if ratio is None else f"{ratio:.3g}"
        between = "-" if interval is None else f"{interval[0]:.3g} to {interval[1]:.3g}"
        lines.append(f"| {row['family']} | {value} | {between} |")
    return "\n".join(lines) + "\n"


def _has_curve(system: str) -> bool:
    """Exclude systems without a codec and systems with lost chunks."""
    return system != "pcm" and system not in TEXT_FLOORS and "+loss" not in system
