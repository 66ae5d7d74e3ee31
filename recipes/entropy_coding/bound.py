"""How much could a stronger prior take out of the codes? Trains a larger one, which does not ship.

python recipes/entropy_coding/bound.py recipes/train_codec/finish.toml
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file

from vqasr.data import load_speech
from vqasr.modeling_vqcodec import VQCodecModel
from vqasr.training.augment import Augment
from vqasr.training.config import load_train_config
from vqasr.training.prior_trainer import PriorTrainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", help="of a finished `vqasr train`")
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--head-size", type=int, default=320)
    parser.add_argument("--dropout", type=float, default=0.3)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = load_train_config(arguments.config)
    folder = Path(config.output_dir)
    codec = VQCodecModel.from_pretrained(folder / "codec").eval()
    larger = dataclasses.replace(
        config.prior,
        width=arguments.width,
        head_size=arguments.head_size,
        dropout=arguments.dropout,
        steps=arguments.steps,
        learning_rate=1.5e-3,
        dilations=[1, 2, 4, 8, 16, 32, 64, 1],
    )
    data = config.data
    noise = load_speech(data.noise, "train") if data.noise else None
    # Encoded by the run itself, pass by pass.
    passes = [load_file(path)["codes"] for path in sorted(folder.glob("prior_run/codes-*"))]
    codes = np.concatenate(passes, axis=1).astype(np.int64)
    bound = folder / "bound"
    PriorTrainer(
        larger, codec, load_speech(data.train, data.train_split),
        load_speech(data.dev, data.dev_split), Augment(config.augment, noise), bound,
        config.seed, torch.device("cuda" if torch.cuda.is_available() else "cpu"),
    ).run(codes)  # fmt: skip
    print((bound / "prior_run" / "log.jsonl").read_text().splitlines()[-1])


if __name__ == "__main__":
    main()
