"""Plot the losses of a run of `vqasr train` beside those of the GPU run, by seconds of audio.

python recipes/train_codec/plot_proof.py runs/proof/log.jsonl ../shared/gpu_run/log-1.jsonl
"""

import argparse
import json
from pathlib import Path

from matplotlib.figure import Figure

# Names in the logs of `vqasr train` and of the GPU run's script.
LOSSES = {
    "tiny.en:stem": ("stem", "distance to Whisper's front end"),
    "tiny.en:layers": ("layers", "distance to Whisper's encoder layers"),
    "tiny.en:decoder": ("kl", "divergence of the decoder, nats a token"),
    "reconstruction": ("rec", "log-mel error / variance"),
}
GPU_BATCH_S = 768.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("log", type=Path, help="log.jsonl of the run")
    parser.add_argument("gpu_log", type=Path, help="log of the GPU run's script")
    parser.add_argument("--batch-s", type=float, default=192.0, help="of the run")
    parser.add_argument("--output", default="recipes/train_codec/proof.png")
    arguments = parser.parse_args()
    ours = [row for row in read(arguments.log) if row["stage"] == "autoencoder"]
    gpu = [row for row in read(arguments.gpu_log) if row["stage"] == "ae"]
    figure = Figure(figsize=(10, 5.5), dpi=110)
    for axes, (name, (gpu_name, title)) in zip(
        figure.subplots(2, 2).flat, LOSSES.items(), strict=True
    ):
        axes.plot(
            [row["step"] * arguments.batch_s for row in ours], [row[name] for row in ours],
            ".-", label="vqasr train, CPU",
        )  # fmt: skip
        axes.plot(
            [row["step"] * GPU_BATCH_S for row in gpu], [row[gpu_name] for row in gpu],
            "s-", label="GPU run",
        )  # fmt: skip
        axes.set_title(title, fontsize=9)
        axes.set_yscale("log")
        axes.set_xlabel("seconds of audio", fontsize=8)
        axes.grid(alpha=0.3, which="both")
    axes.legend()
    figure.tight_layout()
    figure.savefig(arguments.output)
    for row in ours:
        print(row["step"] * arguments.batch_s, {name: row[name] for name in LOSSES})


def read(path: Path) -> list[dict]:
    """Return the rows of a log."""
    return [json.loads(line) for line in path.read_text().splitlines()]


if __name__ == "__main__":
    main()
