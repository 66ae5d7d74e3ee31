"""Draw WER against coded bits per second from folders of `vqasr evaluate`, and print a table.

python recipes/wer_vs_bitrate/plot.py runs/wer_vs_bitrate --output docs/rate_curve.png
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="holds SET/results.json")
    parser.add_argument("--output", type=Path, required=True, help="picture to write")
    arguments = parser.parse_args()
    results = {
        path.parent.name: json.loads(path.read_text())["results"]
        for path in sorted(arguments.folder.glob("*/results.json"))
    }
    if not results:
        parser.error(f"{arguments.folder} holds no SET/results.json")
    draw(results, arguments.output)
    print(table(results))
    print()
    print(rates_table(results))


def draw(results: dict[str, list[dict]], output: Path) -> None:
    figure, axes = plt.subplots(figsize=(8, 4.5), dpi=150)
    for name, rows in results.items():
        coded = [r for r in rows if is_operating_point(r["system"])]
        coded.sort(key=lambda row: row["coded_bps"])
        (line,) = axes.plot(
            [r["coded_bps"] for r in coded], [100 * r["wer"] for r in coded], "o-", label=name
        )
        pcm = next((r for r in rows if r["system"] == "pcm"), None)
        if pcm:
            axes.axhline(100 * pcm["wer"], color=line.get_color(), linestyle=":", linewidth=1)
    axes.set_xlabel("bits per second, bytes on disk (dotted: uncompressed, 256,000)")
    axes.set_ylabel("word error rate, % (cut at 100)")
    axes.set_title("Whisper tiny.en reading codes")
    axes.set_xlim(left=0)
    axes.set_ylim(0, 100)  # loops of the decoder give more errors than words; the table has them
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output)


def is_operating_point(system: str) -> bool:
    """vqasr:N and vqasr:Rbps, without losses."""
    return system.startswith("vqasr:") and system[6:].removesuffix("bps").isdigit()


def table(results: dict[str, list[dict]]) -> str:
    """Markdown: a row for each system, WER (and its difference to pcm) for each set, in percent."""
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
    """Markdown: what the codes of each set and system cost, counted in every way."""
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
    if row is None:
        return "-"
    text = f"{100 * row['wer']:.1f}"
    if row["delta_wer"] is not None and row["system"] != "pcm":
        text += f" ({100 * row['delta_wer']:+.1f})"
    return text


if __name__ == "__main__":
    main()
