"""Give the dimensions behind the base ones a smaller scale, and fit their codebooks anew.

python recipes/train_codec/rescale.py runs/long runs/rescaled

Nothing but commitment holds the scale of latents, and in the run of long.toml it did not hold that
of the dimensions behind `base_dim`: their variance grew from 1 % of that of the base dimensions to
240 % (on dev), and codebooks 3 and 4 described nothing else any more (EXPERIMENTS.md, 2026-11-24).
What reads the latents is changed the other way, so that without a quantizer nothing changes.
"""

import argparse
import itertools
from pathlib import Path

import torch

from vqasr.training.config import load_train_config
from vqasr.training.trainer import StageTrainer

BATCHES = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("start", type=Path, help="folder of a run")
    parser.add_argument("out", type=Path)
    parser.add_argument("--config", default="recipes/train_codec/long.toml")
    parser.add_argument(
        "--variance", type=float, default=0.01, help="as a share of that of the base dimensions"
    )
    arguments = parser.parse_args()
    config = load_train_config(arguments.config)
    config.output_dir = str(arguments.out)
    trainer = StageTrainer(config)
    trainer.load(arguments.start)
    before, after = rescale(trainer, arguments.variance)
    print(f"share of the base dimensions' variance: {before:.3f} before, {after:.3f} now")
    trainer.save_finished()


def rescale(trainer: StageTrainer, variance: float) -> tuple[float, float]:
    """Change codec and adapter of a trainer as said above; the share before and after."""
    codec, embedder = trainer.codec.eval(), trainer.embedder.eval()
    base = codec.quantizer.base_dim
    before = share(trainer)
    scale = (variance / before) ** 0.5
    to_latent = codec.encoder.to_latent
    to_latent.weight[base:] *= scale
    to_latent.bias[base:] *= scale
    for reader in (embedder.from_latent, codec.mel_decoder.from_latent):
        reader.weight[:, base:] /= scale
    for latent in (embedder.no_frame, embedder.missing_frame):
        latent[base:] *= scale
    trainer.fit_codebooks(2)
    embedder.quantizer.load_state_dict(codec.quantizer.state_dict())
    return before, share(trainer)


def share(trainer: StageTrainer) -> float:
    """Variance of the other dimensions over that of the base dimensions, on training speech."""
    latents = []
    for batch in itertools.islice(trainer.batches.from_step(0), BATCHES):
        values, mask = trainer.codec.encode_latents(batch.clean, batch.sample_mask)
        latents.append(values[mask])
    variances = torch.cat(latents).var(0)
    base = trainer.codec.quantizer.base_dim
    return float(variances[base:].sum() / variances[:base].sum())


if __name__ == "__main__":
    with torch.no_grad():
        main()
