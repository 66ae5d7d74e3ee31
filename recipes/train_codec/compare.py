"""Short runs from one state that differ in one thing, judged by their distance to Whisper on dev.

python recipes/train_codec/compare.py --start-from runs/base --steps 500 --set loss.decoder=1.0

WER of a few hundred words says little about a difference of a few per cent; the divergence of the
decoder's predictions, on the same batches of dev for every run, says much more.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path

import torch

from vqasr.data import load_speech
from vqasr.training.augment import Augment
from vqasr.training.batches import Batches
from vqasr.training.config import AugmentConfig, TrainConfig, load_train_config
from vqasr.training.losses import joint_losses
from vqasr.training.precision import autocast
from vqasr.training.trainer import StageTrainer

DEV_BATCHES = 8
LEVELS = (0, 1, 2, 4)
# With variable depth also four codebooks of which so many frames use more than one.
REFINED = (0.2, 0.35, 0.7, 0.9)
PARTS = ("decoder", "transcript", "layers")
CLEAN = AugmentConfig(gain=0, noise=0, reverberation=0, band_limit=0)
HARD = AugmentConfig(speed=1, gain=0, noise=1, reverberation=0.2, band_limit=0.3)
# What Whisper hears too: how faithful the codes are to a bad recording.
NOISE = dataclasses.replace(CLEAN, noise=1, shared=1)
ROOMS = dataclasses.replace(CLEAN, reverberation=1, shared=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="recipes/train_codec/base.toml")
    parser.add_argument("--start-from", default="runs/base", help="folder of a run with its state")
    parser.add_argument("--steps", type=int, default=500, help="of the joint stage")
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--set", action="append", default=[], metavar="TABLE.KEY=VALUE")
    parser.add_argument("--output-dir", default="runs/compare")
    arguments = parser.parse_args()
    config = load_train_config(arguments.config)
    for change in arguments.set:
        name, _, value = change.partition("=")
        *tables, key = name.split(".")
        target = config
        for table in tables:
            target = getattr(target, table)
        if isinstance(target, dict):
            target[key] = json.loads(value)
        else:
            setattr(target, key, type(getattr(target, key))(json.loads(value)))
    config.output_dir, config.start_from = arguments.output_dir, arguments.start_from
    config.joint = dataclasses.replace(
        config.joint,
        steps=arguments.steps,
        learning_rate=arguments.learning_rate,
        warmup_steps=50,
    )
    config.loss.decoder_from = 0.0
    config.save_every = 10**9
    trainer = StageTrainer(config)
    trainer.load(Path(config.start_from))
    started = time.monotonic()
    trainer.gradient_stage("joint", config.joint, 0)
    result = {
        "change": arguments.set,
        "steps": arguments.steps,
        "learning_rate": arguments.learning_rate,
        "seconds": round(time.monotonic() - started),
        "clean": distances(trainer, config, CLEAN),
        "hard": distances(trainer, config, HARD),
        "noise": distances(trainer, config, NOISE),
        "rooms": distances(trainer, config, ROOMS),
    }
    print(json.dumps(result), flush=True)


@torch.no_grad()
def distances(trainer: StageTrainer, config: TrainConfig, augment: AugmentConfig) -> dict:
    """{codebooks: (divergence of the decoder, cross-entropy of the transcript, distance of the
    encoder's layers)} on dev."""
    trainer.codec.eval(), trainer.embedder.eval()
    noise = load_speech(config.data.noise, "train")
    dev = load_speech(config.data.dev, config.data.dev_split)
    data = dataclasses.replace(config.data, batch_s=64.0)
    batches = Batches(dev, data, Augment(augment, noise), 3).from_step(0)
    points = [(level, 1.0) for level in LEVELS]
    if trainer.codec.config.variable_depth:
        points += [(4, share) for share in REFINED]
    sums = torch.zeros(len(points), len(PARTS))
    for _, batch in zip(range(DEV_BATCHES), batches, strict=False):
        for row, (level, share) in zip(sums, points, strict=True):
            levels = torch.full((len(batch.texts),), level)
            refined = torch.full((len(batch.texts),), share) if share < 1 else None
            with autocast(trainer.device):
                losses = joint_losses(
                    trainer.codec, trainer.embedder, trainer.teacher, batch, levels, config.loss,
                    with_decoder=True, refined=refined,
                )  # fmt: skip
            row += torch.tensor([losses.parts[part] for part in PARTS]) / DEV_BATCHES
    batches.close()
    names = [f"{level}" if share == 1 else f"{level}@{share}" for level, share in points]
    return {n: [round(v, 4) for v in row.tolist()] for n, row in zip(names, sums, strict=True)}


if __name__ == "__main__":
    main()
