"""The rate curve of an evaluation as a picture."""

from pathlib import Path
from typing import Any

from vqasr.comparison import family
from vqasr.text_floor import TEXT_FLOORS

FORMATS = (".png", ".svg")


def draw_curve(rows: list[dict[str, Any]], folder: Path) -> list[Path]:
    """Write curve.png and curve.svg: difference of WER to `pcm` against coded bits per second.

    Args:
        rows: of `vqasr evaluate`.
        folder: for the pictures.

    Returns:
        What was written; nothing where there is no difference to draw (no `pcm`), or without
        matplotlib (extra `train`).
    """
    drawn = [r for r in rows if r["coded_bps"] and r["delta_wer"] is not None]
    drawn = [r for r in drawn if r["system"] not in ("pcm", *TEXT_FLOORS)]
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return []
    if not drawn:
        return []
    figure = Figure(figsize=(8, 4.5), dpi=150)
    axes = figure.subplots()
    for name in dict.fromkeys(family(row["system"]) for row in drawn):
        points = sorted(
            (r for r in drawn if family(r["system"]) == name), key=lambda row: row["coded_bps"]
        )
        bps = [r["coded_bps"] for r in points]
        wer = [100 * r["delta_wer"] for r in points]
        line = axes.plot(bps, wer, "o-", label=name)[0]
        for x, row in zip(bps, points, strict=True):
            if row["delta_wer_ci95"]:
                ends = [100 * end for end in row["delta_wer_ci95"]]
                axes.plot([x, x], ends, color=line.get_color(), alpha=0.5, linewidth=1.5)
    for row in rows:
        if row["system"] in TEXT_FLOORS:  # what the words alone would cost
            axes.axvline(row["coded_bps"], color="grey", linestyle=":", label=row["system"])
    axes.axhline(0.0, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel("bits per second, bytes on disk")
    axes.set_ylabel("WER above uncompressed audio, points")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.tight_layout()
    paths = [folder / f"curve{suffix}" for suffix in FORMATS]
    for path in paths:
        figure.savefig(path)
    return paths
