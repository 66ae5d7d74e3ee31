"""Write what was measured into the folder of an adapter or of a CTC recogniser: its model card.

python recipes/wer_vs_bitrate/card.py vqasr/assets/vqasr-base-whisper-tiny.en runs/wer_vs_bitrate
python recipes/wer_vs_bitrate/card.py vqasr/assets/ctc-small runs/ctc_curve
"""

import argparse
import json
from pathlib import Path

from vqasr.adapters.adapter import CONFIG_FILE, CodesAdapter
from vqasr.adapters.model_card import ctc_card

KEPT = ("system", "utterances", "words", "nominal_bps", "coded_bps", "wer", "delta_wer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("results", type=Path, help="holds SET/results.json")
    arguments = parser.parse_args()
    metrics = {}
    for path in sorted(arguments.results.glob("*/results.json")):
        rows = json.loads(path.read_text())["results"]
        metrics[path.parent.name] = [{key: row[key] for key in KEPT} for row in rows]
    if not metrics:
        parser.error(f"{arguments.results} holds no SET/results.json")
    folder = arguments.folder
    if (folder / CONFIG_FILE).exists():
        adapter = CodesAdapter.from_pretrained(folder)
        adapter.metrics = metrics
        adapter.save_pretrained(folder)
    else:
        config = json.loads((folder / "config.json").read_text())
        card = ctc_card(folder.name, config["codec_fingerprint"], metrics)
        (folder / "README.md").write_text(card)


if __name__ == "__main__":
    main()
