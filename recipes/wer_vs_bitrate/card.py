"""Write results into the model card of a codec, prior, adapter or CTC recogniser.

python recipes/wer_vs_bitrate/card.py vqasr/assets/vqasr-base runs/wer_vs_bitrate
python recipes/wer_vs_bitrate/card.py vqasr/assets/vqasr-base-prior runs/wer_vs_bitrate
python recipes/wer_vs_bitrate/card.py vqasr/assets/vqasr-base-whisper-tiny.en runs/wer_vs_bitrate
python recipes/wer_vs_bitrate/card.py vqasr/assets/ctc-small runs/ctc_curve
"""

import argparse
import json
from pathlib import Path
from typing import Any

from vqasr import CodePrior, VQCodecModel
from vqasr.adapters.adapter import CONFIG_FILE
from vqasr.adapters.model_card import RECOGNISER, Metrics, card, model_card, results_table

KEPT = (
    "system", "utterances", "words", "nominal_bps", "order0_bps", "prior_bps", "coded_bps", "wer",
    "delta_wer",
)  # fmt: skip
READ = ("pcm", "vqasr:")  # beginnings of the systems that belong into a card
RATE_COLUMNS = ("nominal_bps", "order0_bps", "prior_bps", "coded_bps")
RATES_EXPLAINED = (
    "Bits per second on disk (`coded_bps`), and by the prior, the order-0 entropy and the sizes of "
    "the codebooks."
)
CODEC = """from vqasr import compress, decode

stream = compress("talk.wav", codec="THIS_FOLDER", num_quantizers=4)
audio = decode(stream, codec="THIS_FOLDER")"""
PRIOR = """from vqasr import CodePrior, compress

prior = CodePrior.from_pretrained("THIS_FOLDER")
stream = compress("talk.wav", num_quantizers=4, prior=prior)"""


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
    (arguments.folder / "README.md").write_text(card_of(arguments.folder, metrics))


def card_of(folder: Path, metrics: Metrics) -> str:
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


def ctc_card(name: str, codec_fingerprint: str, metrics: Metrics) -> str:
    """Return the Markdown for a CTC recogniser that reads codes."""
    return card(
        "automatic-speech-recognition",
        "ctc",
        f"{name}: codes to text",
        "A small Wav2Vec2 encoder with a CTC head that reads codes of the vqasr codec "
        f"`{codec_fingerprint}`: no Whisper, no waveform, no spectrogram. Weights are stored as "
        "integers with a scale per row. With `+lm` after its name, words are found with a word "
        "n-gram; rows with `+greedy` are the likeliest tokens alone.",
        RECOGNISER.format(arguments='"THIS_FOLDER"'),
        results_table(metrics),
    )


def codec_card(name: str, config: dict[str, Any], fingerprint: str, metrics: Metrics) -> str:
    """Return the Markdown for a codec, from the contents of config.json."""
    return card(
        "feature-extraction",
        "codec",
        f"{name}: speech codec",
        f"Codec `{fingerprint}`: 16 kHz speech to {config['num_quantizers']} residual "
        f"codes of {config['codebook_size']} at {16_000 / config['hop_length']:g} Hz and back. "
        "Recognisers read the codes through an adapter.",
        CODEC,
        results_table(metrics),
        sizes=f"- look-ahead {config['lookahead_samples'] / 16:g} ms\n"
        f"- the first codebooks describe {config['base_dim']} of {config['latent_dim']} latent "
        "dimensions\n\n",
    )


def prior_card(name: str, codec_fingerprint: str, metrics: Metrics) -> str:
    """Return the Markdown for a code prior."""
    return card(
        "other",
        "code-prior",
        f"{name}: probabilities of codes",
        f"Integer network that predicts the codes of codec `{codec_fingerprint}` for "
        "the range coder, with the same probabilities on every machine.",
        PRIOR,
        results_table(metrics, RATE_COLUMNS, RATES_EXPLAINED),
    )


if __name__ == "__main__":
    main()
