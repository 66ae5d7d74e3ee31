"""The rate curve of an evaluation as a picture."""

from pathlib import Path
from typing import Any

from vqasr.evaluation.comparison import family
from vqasr.evaluation.text_floor import TEXT_FLOORS

FORMATS = (".png", ".svg")
COLOURS = 10  # of matplotlib's cycle; then another marker
MARKERS = "o^sD"
CEILING = "vqasr:continuous"


def draw_curve(rows: list[dict[str, Any]], folder: Path) -> list[Path]:
    """Write curve.png and curve.svg: WER against coded bits per second.

    Drawn is its difference to `pcm`, or where that was not heard, itself.

    Args:
        rows: of `vqasr evaluate`.
        folder: for the pictures.

    Returns:
        What was written; nothing where nothing is coded, or without matplotlib (extra `train`).
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return []
    if not _drawn(rows):
        return []
    figure = Figure(figsize=(8, 4.5), dpi=150)
    axes = figure.subplots()
    draw_families(axes, rows)
    axes.legend()
    figure.tight_layout()
    paths = [folder / f"curve{suffix}" for suffix in FORMATS]
    for path in paths:
        figure.savefig(path)
    return paths


def draw_families(axes: Any, rows: list[dict[str, Any]], order: list[str] | None = None) -> None:
    """One line for each family of systems, with 95 % intervals; floors and ceiling.

    Args:
        axes: of matplotlib.
        rows: of `vqasr evaluate`.
        order: of the families, which decides their colours; None for those in the rows.
    """
    drawn = _drawn(rows)
    measure = measured(rows)
    order = order or families(rows)
    for name in families(rows):
        colour, marker = order.index(name) % COLOURS, MARKERS[order.index(name) // COLOURS]
        points = sorted(
            (r for r in drawn if family(r["system"]) == name), key=lambda row: row["coded_bps"]
        )
        bps = [r["coded_bps"] for r in points]
        wer = [100 * r[measure] for r in points]
        line = axes.plot(bps, wer, f"{marker}-C{colour}", markersize=4, label=name)[0]
        for x, row in zip(bps, points, strict=True):
            if row[f"{measure}_ci95"]:
                ends = [100 * end for end in row[f"{measure}_ci95"]]
                axes.plot([x, x], ends, color=line.get_color(), alpha=0.5, linewidth=1.5)
    for row in rows:
        if row["system"] in TEXT_FLOORS:  # what the words alone would cost
            axes.axvline(row["coded_bps"], color="grey", linestyle=":", label=row["system"])
        if row["system"] == CEILING and row[measure] is not None:  # the codec without its quantizer
            axes.axhline(100 * row[measure], color="grey", linestyle="--", label=CEILING)
    axes.axhline(0.0, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel("bits per second, bytes on disk")
    above = measure == "delta_wer"
    axes.set_ylabel("WER above uncompressed audio, points" if above else "WER, percent")
    axes.grid(alpha=0.3, which="both")


def measured(rows: list[dict[str, Any]]) -> str:
    """What is drawn: delta_wer where there is one, else wer."""
    return "delta_wer" if any(row["delta_wer"] is not None for row in rows) else "wer"


def families(rows: list[dict[str, Any]]) -> list[str]:
    """Names of the lines that these rows give."""
    return list(dict.fromkeys(family(row["system"]) for row in _drawn(rows)))


def _drawn(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What has a place in the picture: it is coded, and was heard."""
    coded = [r for r in rows if r["coded_bps"] and r[measured(rows)] is not None]
    return [r for r in coded if r["system"] not in ("pcm", *TEXT_FLOORS)]
