"""Write what was measured into an adapter's folder: adapter_config.json and its model card.

python recipes/rate_curve/card.py vqasr/assets/vqasr-base-whisper-tiny.en runs/rate_curve
"""

import argparse
import json
from pathlib import Path

from vqasr.adapters.codes_adapter import CodesAdapter

KEPT = ("system", "utterances", "words", "nominal_bps", "coded_bps", "wer", "delta_wer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("adapter", type=Path)
    parser.add_argument("results", type=Path, help="holds SET/results.json")
    arguments = parser.parse_args()
    metrics = {}
    for path in sorted(arguments.results.glob("*/results.json")):
        rows = json.loads(path.read_text())["results"]
        metrics[path.parent.name] = [{key: row[key] for key in KEPT} for row in rows]
    if not metrics:
        parser.error(f"{arguments.results} holds no SET/results.json")
    adapter = CodesAdapter.from_pretrained(arguments.adapter)
    adapter.metrics = metrics
    adapter.save_pretrained(arguments.adapter)


if __name__ == "__main__":
    main()
