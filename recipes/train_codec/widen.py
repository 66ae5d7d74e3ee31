"""Give the latents of a finished codec and adapter back the dimensions that training took away.

python recipes/train_codec/widen.py runs/depth runs/widened

The runs of base.toml and depth.toml held latents to the codes that were in use, mostly few: in the
end 12 of 64 dimensions carried anything, and from the third on codebooks only made those more
exact (EXPERIMENTS.md, 2026-11-24). Here those 12 stay and become the base dimensions, with the
first two codebooks as they were; the other 52 become the part of the log-mel that the encoder's
features hold and the 12 do not tell, and the codebooks from the third on are fitted anew. With one
or two codebooks codec and adapter do what they did; wide.toml teaches the adapter the rest.
"""

import argparse
import itertools
from pathlib import Path

import torch
from torch import Tensor, nn

from vqasr.mel import clip_log_mel
from vqasr.training.config import load_train_config
from vqasr.training.trainer import StageTrainer

BATCHES = 60
# Variance of the new dimensions, as a share of that of the old ones: about as much as two codebooks
# leave over of those.
NEW_VARIANCE = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("start", type=Path, help="folder with codec/ and adapter/")
    parser.add_argument("out", type=Path)
    parser.add_argument("--config", default="recipes/train_codec/wide.toml")
    arguments = parser.parse_args()
    config = load_train_config(arguments.config)
    config.output_dir = str(arguments.out)
    base_dim = config.codec.pop("base_dim")  # `start` knows no base dimensions
    trainer = StageTrainer(config)
    trainer.load(arguments.start)
    widen(trainer, base_dim)
    trainer.save_finished()


def widen(trainer: StageTrainer, base_dim: int) -> None:
    """Change codec and adapter of a trainer as said above, keeping `base_dim` dimensions."""
    codec, embedder = trainer.codec.eval(), trainer.embedder.eval()
    codec.config.base_dim = codec.quantizer.base_dim = base_dim
    features, mel = examples(trainer)
    to_latent = codec.encoder.to_latent
    kept, mean = principal(to_latent(features), base_dim)
    bring = nn.Linear(to_latent.in_features, to_latent.out_features)  # the new to_latent
    bring.weight[:base_dim] = kept @ to_latent.weight
    bring.bias[:base_dim] = kept @ (to_latent.bias - mean)
    old = features @ bring.weight[:base_dim].T + bring.bias[:base_dim]
    of_mel = regression(features, mel)
    known = regression(old, mel)
    # What the features tell of the log-mel beyond what the old dimensions tell of it.
    weight = of_mel[:-1] - bring.weight[:base_dim].T @ known[:-1]
    bias = of_mel[-1] - bring.bias[:base_dim] @ known[:-1] - known[-1]
    new = features @ weight + bias
    directions = torch.linalg.eigh(torch.cov(new.T))[1].flip(1)[
        :, : to_latent.out_features - base_dim
    ]
    total = (new @ directions).var(0).sum()
    scale = (NEW_VARIANCE * old.var(0).sum() / total).sqrt()
    bring.weight[base_dim:] = scale * (weight @ directions).T
    bring.bias[base_dim:] = scale * (bias @ directions)
    codec.encoder.to_latent = bring
    for reader in (embedder.from_latent, codec.mel_decoder.from_latent):
        reader.bias += reader.weight @ mean
        reader.weight[:, :base_dim] = reader.weight @ kept.T
        reader.weight[:, base_dim:] = 0.0
    for latent in (embedder.no_frame, embedder.missing_frame):
        latent[:base_dim] = kept @ (latent - mean)
        latent[base_dim:] = 0.0
    books = codec.quantizer.codebooks
    first, second = (books[0] - mean) @ kept.T, books[1] @ kept.T
    books[:2] = 0.0
    books[0, :, :base_dim], books[1, :, :base_dim] = first, second
    trainer.fit_codebooks(2)
    embedder.quantizer.load_state_dict(codec.quantizer.state_dict())


def examples(trainer: StageTrainer) -> tuple[Tensor, Tensor]:
    """The encoder's features (frames, hidden_size) and log-mel (frames, 320) of training speech."""
    seen: dict[str, Tensor] = {}
    hook = trainer.codec.encoder.norm.register_forward_hook(
        lambda module, inputs, output: seen.update(features=output)
    )
    features, mels = [], []
    for batch in itertools.islice(trainer.batches.from_step(0), BATCHES):
        _, mask = trainer.codec.encode_latents(batch.clean, batch.sample_mask)
        mel = clip_log_mel(batch.clean)[:, : 4 * mask.shape[1]]
        features.append(seen["features"][mask])
        mels.append(mel.reshape(*mask.shape, -1)[mask])
    hook.remove()
    return torch.cat(features), torch.cat(mels)


def principal(latents: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Directions (count, dim) of most variance, and the mean."""
    return torch.linalg.eigh(torch.cov(latents.T))[1].flip(1)[:, :count].T, latents.mean(0)


def regression(inputs: Tensor, outputs: Tensor) -> Tensor:
    """Least squares: (inputs + 1, outputs), the last row the constant."""
    inputs = torch.cat([inputs, torch.ones(len(inputs), 1)], 1).double()
    gram = inputs.T @ inputs + 1e-3 * torch.eye(inputs.shape[1], dtype=torch.float64)
    return torch.linalg.solve(gram, inputs.T @ outputs.double()).float()


if __name__ == "__main__":
    with torch.no_grad():
        main()
