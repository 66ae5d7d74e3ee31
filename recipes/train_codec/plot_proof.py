"""Plot the losses of runs of `vqasr train` beside those of the GPU script, by seconds of audio.

python recipes/train_codec/plot_proof.py ../shared/gpu_run/log-1.jsonl \
    recipes/train_codec/proof-gpu.log.jsonl:768:H100 recipes/train_codec/proof.log.jsonl:192:CPU
"""

import argparse
import json
from pathlib import Path

from matplotlib.figure import Figure

# Names in the logs of `vqasr train` and of the script.
LOSSES = {
    "tiny.en:stem": ("stem", "distance to Whisper's front end"),
    "tiny.en:layers": ("layers", "distance to Whisper's encoder layers"),
    "tiny.en:decoder": ("kl", "divergence of the decoder, nats a token"),
    "reconstruction": ("rec", "log-mel error / variance"),
}
SCRIPT_BATCH_S = 768.0
STYLES = ("o-", ".-")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("script_log", type=Path, help="log of the GPU script")
    parser.add_argument("runs", nargs="+", help="log.jsonl:seconds of audio in a step:label")
    parser.add_argument("--output", default="recipes/train_codec/proof.png")
    arguments = parser.parse_args()
    runs = {}
    for run in arguments.runs:
        path, batch_s, label = run.rsplit(":", 2)
        runs[label] = points(Path(path), float(batch_s))
    last_s = max(audio_s for rows in runs.values() for audio_s, _ in rows)
    script = [p for p in points(arguments.script_log, SCRIPT_BATCH_S) if p[0] <= last_s]
    figure = Figure(figsize=(10, 5.5), dpi=110)
    for axes, (name, (script_name, title)) in zip(
        figure.subplots(2, 2).flat, LOSSES.items(), strict=True
    ):
        x, y = zip(*((audio_s, row[script_name]) for audio_s, row in script), strict=True)
        axes.plot(x, y, "s-", label="GPU script")
        for (label, rows), style in zip(runs.items(), STYLES, strict=False):
            x, y = zip(*((audio_s, row[name]) for audio_s, row in rows), strict=True)
            axes.plot(x, y, style, label=f"vqasr train, {label}")
        axes.set_title(title, fontsize=9)
        axes.set_yscale("log")
        axes.set_xlabel("seconds of audio", fontsize=8)
        axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.tight_layout()
    figure.savefig(arguments.output)
    table = dict(script)
    for rows in runs.values():
        for audio_s, row in rows:
            theirs = table.get(audio_s, {})
            print(audio_s, {name: (row[name], theirs.get(g)) for name, (g, _) in LOSSES.items()})


def points(path: Path, batch_s: float) -> list[tuple[float, dict]]:
    """Return (seconds of audio, row) of a log's lines with losses."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    stages = ("ae", "autoencoder", "joint")
    return [(row["step"] * batch_s, row) for row in rows if row["stage"] in stages]


if __name__ == "__main__":
    main()
