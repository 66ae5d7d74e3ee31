"""Print the relative increase of WER on each data set, to compare kinds of speech.

python recipes/wer_vs_bitrate/stability.py runs/wer_vs_bitrate --bps 550
"""

import argparse
import json
import statistics
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="folder with a results.json for each set")
    parser.add_argument("--bps", type=float, default=550.0, help="highest coded bits per second")
    arguments = parser.parse_args()
    increases = {}
    for path in sorted(arguments.results.glob("*/results.json")):
        rows = json.loads(path.read_text())["results"]
        name = path.parent.name
        pcm = next((row["wer"] for row in rows if row["system"] == "pcm"), None)
        # Without uncoded systems and systems with lost chunks.
        coded = [r for r in rows if r["coded_bps"] is not None and "+loss" not in r["system"]]
        allowed = [r for r in coded if r["coded_bps"] <= arguments.bps]
        if pcm is None or not allowed:
            parser.error(f"{path}: lacks pcm or a system of at most {arguments.bps:g} coded bps.")
        best = max(allowed, key=lambda row: row["coded_bps"])
        increases[name] = best["wer"] / pcm - 1
        print(
            f"{name:18} {best['system']} {best['coded_bps']:6.0f} bps  WER {100 * pcm:.1f} -> "
            f"{100 * best['wer']:.1f} %  {100 * increases[name]:+.0f} %"
        )
    if not increases:
        parser.error(f"{arguments.results} holds no SET/results.json.")
    median = statistics.median(increases.values())
    worst = max(increases, key=lambda name: increases[name])
    print(
        f"median {100 * median:+.0f} %, worst {worst}: {increases[worst] / median:.2f} x the median"
    )


if __name__ == "__main__":
    main()
