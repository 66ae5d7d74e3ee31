"""Write results into the model card of a codec, prior, adapter or CTC recogniser.

python recipes/wer_vs_bitrate/card.py vqasr/assets/vqasr-base runs/wer_vs_bitrate
python recipes/wer_vs_bitrate/card.py vqasr/assets/vqasr-base-prior runs/wer_vs_bitrate
python recipes/wer_vs_bitrate/card.py vqasr/assets/vqasr-base-whisper-tiny.en runs/wer_vs_bitrate
python recipes/wer_vs_bitrate/card.py vqasr/assets/ctc-small runs/ctc_curve
"""

import argparse
import json
from pathlib import Path

from vqasr import CodePrior, VQCodecModel
from vqasr.adapters.adapter import CONFIG_FILE
from vqasr.adapters.model_card import codec_card, ctc_card, model_card, prior_card

KEPT = (
    "system", "utterances", "words", "nominal_bps", "order0_bps", "prior_bps", "coded_bps", "wer",
    "delta_wer",
)  # fmt: skip
READ = ("pcm", "vqasr:")  # beginnings of the systems that belong into a card


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of the codec, prior, adapter or recogniser")
    parser.add_argument("results", type=Path, help="holds SET/results.json")
    arguments = parser.parse_args()
    metrics = {}
    for path in sorted(arguments.results.glob("*/results.json")):
        rows = json.loads(path.read_text())["results"]
        rows = [row for row in rows if row["system"].startswith(READ)]
        metrics[path.parent.name] = [{key: row[key] for key in KEPT} for row in rows]
    if not metrics:
        parser.error(f"{arguments.results} holds no SET/results.json")
    (arguments.folder / "README.md").write_text(card(arguments.folder, metrics))


def card(folder: Path, metrics: dict) -> str:
    """Return the card; an adapter's metrics are also written into its configuration."""
    if (folder / CONFIG_FILE).exists():
        config = json.loads((folder / CONFIG_FILE).read_text()) | {"metrics": metrics}
        (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")
        return model_card(config)
    if (folder / "prior.safetensors").exists():
        rows = {k: [r for r in v if r["prior_bps"] is not None] for k, v in metrics.items()}
        return prior_card(
            folder.name, CodePrior.from_pretrained(folder).config.codec_fingerprint, rows
        )
    config = json.loads((folder / "config.json").read_text())
    if "codec_fingerprint" in config:
        return ctc_card(folder.name, config["codec_fingerprint"], metrics)
    fingerprint = VQCodecModel.from_pretrained(folder).fingerprint().hex()
    return codec_card(folder.name, config, fingerprint, metrics)


if __name__ == "__main__":
    main()
