"""Codes to train a prior on: the training recordings, as they are and changed."""

import copy
import hashlib
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress
from safetensors.numpy import load_file, save_file
from torch import Tensor

from vqasr.codec.modeling import VQCodecModel
from vqasr.compression.choice import CodeChoice
from vqasr.entropy.prior import CodePrior
from vqasr.grid import SAMPLING_RATE_HZ
from vqasr.training.batches import Batches
from vqasr.training.prices import Fineness, typical_clips

# Seconds of audio that are encoded together.
BATCH_S = 96.0

logger = logging.getLogger("vqasr.train")


def training_codes(
    codec: VQCodecModel,
    batches: Batches,
    passes: int,
    seed: int,
    folder: Path,
    prior: CodePrior | None = None,
) -> np.ndarray:
    """All codes of `passes` passes over the data, one clip after another.

    With variable depth, some clips are described more finely than others.

    Args:
        codec: trained, on the CPU.
        batches: of the recordings; all passes but the first are changed by augmentation.
        passes: over the data.
        seed: of the changes.
        folder: passes are kept here and not encoded again.
        prior: chooses the codes, at different prices of a bit; None: the nearest codes, at
            different tolerances.

    Returns:
        (num_quantizers, frames) int64.
    """
    folder.mkdir(parents=True, exist_ok=True)
    about = f"{codec.fingerprint().hex()} {batches.about()} {seed}"
    if prior is not None:
        about += f" {prior.fingerprint.hex()}"
    name = hashlib.sha256(about.encode()).hexdigest()[:12]
    paths = [folder / f"codes-{name}-{i}.safetensors" for i in range(passes)]
    for i, path in enumerate(paths):
        if not path.is_file():
            _encode_pass(codec, batches, [seed, 2, i], i, path, prior)
    return np.concatenate([load_file(path)["codes"].astype(np.int64) for path in paths], axis=1)


@torch.no_grad()
def _encode_pass(
    codec: VQCodecModel,
    batches: Batches,
    seed: list[int],
    number: int,
    path: Path,
    prior: CodePrior | None,
) -> None:
    """Encode all clips into a file, which is there as a whole or not at all."""
    codec.eval()
    encoder = copy.deepcopy(codec.encoder).to(batches.device)
    fineness = Fineness(codec, typical_clips(batches.recordings))
    n = codec.config.num_quantizers
    codes: list[np.ndarray] = []

    def chosen(latents: Tensor, refined: float) -> np.ndarray:
        if prior is not None:
            choice = CodeChoice(codec, n, fineness.price(refined), prior)
            return choice.choose(latents).numpy()
        tolerance = fineness.tolerance(refined) if codec.config.variable_depth else 0.0
        return codec.quantizer.encode(latents[None], n, tolerance)[0].numpy()

    with Progress() as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        total = len(batches.recordings)
        task = bar.add_task(f"codes for the prior, pass {number + 1}", total=total)
        for batch in batches.of_all(seed, BATCH_S, changed=number > 0):
            latents = encoder(batch.heard).cpu()
            frames = (-(-batch.lengths // codec.config.hop_length)).tolist()
            clips = [row[:length] for row, length in zip(latents, frames, strict=True)]
            codes += pool.map(chosen, clips, batch.refined.tolist())
            bar.advance(task, len(clips))
    seconds = sum(c.shape[1] for c in codes) * codec.config.hop_length / SAMPLING_RATE_HZ
    logger.info("pass %d: %.0f s", number + 1, seconds)
    together = np.concatenate(codes, axis=1).astype(np.uint16)
    save_file({"codes": together}, path.with_suffix(".partial"))
    path.with_suffix(".partial").rename(path)
