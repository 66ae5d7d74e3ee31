"""Draw the rate curve of an evaluation."""

from pathlib import Path
from typing import Any

from vqasr.evaluation.comparison import family
from vqasr.evaluation.text_floor import TEXT_FLOORS

FORMATS = (".png", ".svg")
COLOURS = 10  # in matplotlib's cycle; then the next marker
MARKERS = "o^sD"
CEILING = "vqasr:continuous"


def draw_curve(rows: list[dict[str, Any]], folder: Path) -> None:
    """Write curve.png and curve.svg: WER against coded bits per second.

    The y axis is the difference to `pcm`, or the WER itself if `pcm` is missing. Nothing is written
    if no system is coded, or without matplotlib (extra `train`).
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    if not _coded(rows):
        return
    figure = Figure(figsize=(8, 4.5), dpi=150)
    axes = figure.subplots()
    draw_families(axes, rows)
    axes.legend()
    figure.tight_layout()
    for suffix in FORMATS:
        figure.savefig(folder / f"curve{suffix}")


def draw_families(axes: Any, rows: list[dict[str, Any]], order: list[str] | None = None) -> None:
    """Draw a line for each family of systems, with 95 % intervals, text floors and the ceiling.

    Args:
        axes: of matplotlib.
        rows: results of `vqasr evaluate`.
        order: families by colour, to share colours between panels; None for those in the rows.
    """
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    measure = _measure(rows)
    order = order or families(rows)
    for name in families(rows):
        marker, colour = divmod(order.index(name), COLOURS)
        points = sorted(
            (row for row in _coded(rows) if family(row["system"]) == name),
            key=lambda row: row["coded_bps"],
        )
        bps = [row["coded_bps"] for row in points]
        wer = [100 * row[measure] for row in points]
        axes.plot(bps, wer, f"{MARKERS[marker]}-C{colour}", markersize=4, label=name)
        for x, row in zip(bps, points, strict=True):
            if row[f"{measure}_ci95"]:
                ends = [100 * end for end in row[f"{measure}_ci95"]]
                axes.plot([x, x], ends, color=f"C{colour}", alpha=0.5, linewidth=1.5)
    for row in rows:
        if row["system"] in TEXT_FLOORS:
            axes.axvline(row["coded_bps"], color="grey", linestyle=":", label=row["system"])
        if row["system"] == CEILING and row[measure] is not None:
            axes.axhline(100 * row[measure], color="grey", linestyle="--", label=CEILING)
    axes.axhline(0.0, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("bits per second, bytes on disk")
    above = measure == "delta_wer"
    axes.set_ylabel("WER above uncompressed audio, points" if above else "WER, percent")
    axes.grid(alpha=0.3, which="both")


def families(rows: list[dict[str, Any]]) -> list[str]:
    """Return the names of the lines that these rows make."""
    return list(dict.fromkeys(family(row["system"]) for row in _coded(rows)))


def _measure(rows: list[dict[str, Any]]) -> str:
    return "delta_wer" if any(row["delta_wer"] is not None for row in rows) else "wer"


def _coded(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of codecs with a word error rate."""
    measure = _measure(rows)
    return [
        row
        for row in rows
        if row["coded_bps"] and row[measure] is not None
        if row["system"] not in ("pcm", *TEXT_FLOORS)
    ]
