"""How many times vqasr's bits each other codec needs at equal word error rate."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vqasr.evaluation.bd_rate import rate_ratio, ratio_interval
from vqasr.evaluation.error_rates import score
from vqasr.evaluation.intervals import bootstrap_rates, drawn_groups
from vqasr.evaluation.neural import PREFIX as NEURAL
from vqasr.evaluation.text_floor import TEXT_FLOORS

OURS = "vqasr"
DECODED = ":audio"


def family(system: str) -> str:
    """What one curve joins: vqasr at all rates, Opus at all rates, one checkpoint at all rates."""
    if system.startswith(NEURAL):
        return system.partition("@")[0]
    return system.partition(":")[0] + (", decoded" if system.endswith(DECODED) else "")


def compare_rates(
    rows: list[dict[str, Any]],
    texts: list[str],
    hypotheses: list[list[str]],
    speakers: Sequence[Any] | None,
) -> list[dict[str, Any]]:
    """Compare vqasr's curve (codes read directly) with that of every other family of systems.

    Args:
        rows: of the systems that were measured.
        texts: what was said.
        hypotheses: of each row, in the order of the texts.
        speakers: of each text, see `statistics`.

    Returns:
        For each family: "family", "rate_ratio" (bits that it needs / bits that vqasr needs at the
        same word error rate, over the range that both reach, see `rate_ratio`; None where the
        curves do not meet) and "rate_ratio_ci95", [low, high] or None where too many draws of the
        bootstrap have no range in common. Empty where vqasr or others were not measured.
    """
    coded = [
        (row, heard)
        for row, heard in zip(rows, hypotheses, strict=True)
        if row["coded_bps"] and row["wer"] is not None and _has_curve(row["system"])
    ]
    if not coded:
        return []
    scores = [score(texts, heard) for _, heard in coded]
    groups, _ = drawn_groups(scores[0], speakers)
    draws = bootstrap_rates(np.stack([s.errors for s in scores]), scores[0].words, groups)
    members: dict[str, list[int]] = {}
    for i, (row, _) in enumerate(coded):
        members.setdefault(family(row["system"]), []).append(i)
    ours = members.pop(OURS, [])
    if not ours:
        return []
    bps = np.array([row["coded_bps"] for row, _ in coded])
    wer = np.array([row["wer"] for row, _ in coded])
    return [
        {
            "family": name,
            "rate_ratio": _rounded(rate_ratio(bps[ours], wer[ours], bps[theirs], wer[theirs])),
            "rate_ratio_ci95": ratio_interval(
                bps[ours], draws[ours].T, bps[theirs], draws[theirs].T
            ),
        }
        for name, theirs in members.items()
    ]


def ratios_table(ratios: list[dict[str, Any]]) -> str:
    """Markdown; empty where nothing was compared."""
    if not ratios:
        return ""
    lines = ["| codec | bits for each bit of vqasr, at equal WER | 95 % |", "|---|---|---|"]
    for found in ratios:
        ratio, interval = found["rate_ratio"], found["rate_ratio_ci95"]
        shown = "the curves do not meet" if ratio is None else f"{ratio:.3g}"
        between = "-" if interval is None else f"{interval[0]:.3g} to {interval[1]:.3g}"
        lines.append(f"| {found['family']} | {shown} | {between} |")
    return "\n".join(lines) + "\n"


def _has_curve(system: str) -> bool:
    """Neither what is not coded, nor the words themselves, nor what lost chunks on the way."""
    return system != "pcm" and system not in TEXT_FLOORS and "+loss" not in system


def _rounded(ratio: float | None) -> float | None:
    return None if ratio is None else round(ratio, 3)
