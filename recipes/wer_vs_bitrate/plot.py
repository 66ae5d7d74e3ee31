"""Draw WER against coded bits per second from folders of `vqasr evaluate`, and print tables.

python recipes/wer_vs_bitrate/plot.py runs/wer_vs_bitrate --output docs/rate_curve.png
python recipes/wer_vs_bitrate/plot.py runs/wer_vs_bitrate --sets test_libri_other \
    --output docs/readme_curve.png
"""

import argparse
import json
from pathlib import Path

from matplotlib.artist import Artist
from matplotlib.figure import Figure

from vqasr.evaluation.curve import draw_families, families

HIGHEST_POINTS = 40  # higher points are only in the table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds SET/results.json")
    parser.add_argument("--sets", nargs="+", help="data sets to draw; default: all")
    parser.add_argument("--output", type=Path, required=True, help="picture to write")
    arguments = parser.parse_args()
    results = {
        path.parent.name: json.loads(path.read_text())["results"]
        for path in sorted(arguments.folder.glob("*/results.json"))
    }
    if not results:
        parser.error(f"{arguments.folder} holds no SET/results.json")
    sets = arguments.sets or list(results)
    if missing := sorted(set(sets) - results.keys()):
        parser.error(f"{arguments.folder} holds {sorted(results)}, but not {missing}")
    draw({name: results[name] for name in sets}, arguments.output)
    print(table(results))
    print()
    print(rates_table(results))


def draw(results: dict[str, list[dict]], output: Path) -> None:
    """Draw a panel for each data set, and one legend: beside them, or in the only panel."""
    order = list(dict.fromkeys(name for rows in results.values() for name in families(rows)))
    single = len(results) == 1
    rows_of_panels = 1 if len(results) <= 2 else 2
    columns = 1 if single else -(-(len(results) + 1) // rows_of_panels)
    size = (7.5, 4.5) if single else (3.6 * columns, 3.25 * rows_of_panels)
    figure = Figure(figsize=size, dpi=130)
    panels = list(figure.subplots(rows_of_panels, columns, sharex=True, squeeze=False).flat)
    lines: dict[str, Artist] = {}
    for axes, (name, rows) in zip(panels, results.items(), strict=False):
        draw_families(axes, rows, order)
        axes.set_title(f"{name} (uncompressed {100 * uncompressed(rows):.1f} %)", fontsize=9)
        axes.set_ylim(-2, HIGHEST_POINTS)
        axes.tick_params(labelbottom=True, labelsize=8)
        axes.xaxis.label.set_fontsize(8)
        axes.yaxis.label.set_fontsize(8)
        lines |= {line.get_label(): line for line in axes.lines if line.get_label()[0] != "_"}
    for axes in panels[len(results) :]:
        axes.axis("off")
    place = "upper right" if single else "center"
    panels[-1].legend(lines.values(), lines, loc=place, fontsize=8)
    figure.tight_layout()
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output)


def uncompressed(rows: list[dict]) -> float:
    """Return the WER of uncompressed audio."""
    return next((row["wer"] for row in rows if row["system"] == "pcm"), float("nan"))


def table(results: dict[str, list[dict]]) -> str:
    """Format as Markdown: each system's WER (and difference to pcm) on each set, in percent."""
    systems = list(dict.fromkeys(r["system"] for rows in results.values() for r in rows))
    lines = ["| system | coded bps | " + " | ".join(results) + " |"]
    lines.append("|---|---|" + "---|" * len(results))
    for system in systems:
        rows = [next((r for r in rs if r["system"] == system), None) for rs in results.values()]
        bps = [r["coded_bps"] for r in rows if r and r["coded_bps"]]
        rate = f"{min(bps):.0f} to {max(bps):.0f}" if bps else "-"
        lines.append(f"| {system} | {rate} | " + " | ".join(map(cell, rows)) + " |")
    return "\n".join(lines)


def rates_table(results: dict[str, list[dict]]) -> str:
    """Format as Markdown: bits per second of each system on each set, by every measure."""
    columns = ("nominal_bps", "order0_bps", "prior_bps", "coded_bps")
    parts = ("prior_bps_speech", "prior_bps_pauses")
    names = [c.removesuffix("_bps").replace("prior_bps_", "prior, ") for c in columns + parts]
    lines = ["| set | system | " + " | ".join(names) + " | container at 1 s, 5 s, 60 s |"]
    lines.append("|---|---|" + "---|" * (len(names) + 1))
    for name, rows in results.items():
        for row in rows:
            if row.get("prior_bps") is not None:
                cells = [f"{row[c]:.0f}" for c in columns + parts]
                cells.append(", ".join(f"{v:.0f}" for v in row["container_bps"].values()))
                lines.append(f"| {name} | {row['system']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(row: dict | None) -> str:
    if row is None or row["wer"] is None:
        return "-"
    text = f"{100 * row['wer']:.1f}"
    if row["delta_wer"] is not None and row["system"] != "pcm":
        text += f" ({100 * row['delta_wer']:+.1f})"
    return text


if __name__ == "__main__":
    main()
