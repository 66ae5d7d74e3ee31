"""Codes to train a prior on: the training recordings, as they are and changed."""

import hashlib
import logging
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from rich.progress import track
from safetensors.numpy import load_file, save_file

from vqasr.acoustics import change_speed
from vqasr.code_choice import CodeChoice
from vqasr.code_prior import CodePrior
from vqasr.data import data_fingerprint, row_audio
from vqasr.encoding import encode_latents
from vqasr.mel import SAMPLING_RATE_HZ
from vqasr.modeling_vqcodec import VQCodecModel
from vqasr.training.augment import Augment
from vqasr.training.prices import Fineness, draw_refined, typical_clips

# Other speeds are other voices, and the residual codebooks hear voices before words.
SPEEDS = (0.85, 0.9, 0.95, 1.0, 1.06, 1.12)
# With fewer clips, starting processes takes longer than encoding.
WORTH_PROCESSES = 500

logger = logging.getLogger("vqasr.train")


def training_codes(
    codec: VQCodecModel,
    data: Dataset,
    augment: Augment,
    passes: int,
    seed: int,
    folder: Path,
    prior: CodePrior | None = None,
) -> np.ndarray:
    """All codes of `passes` passes over the data, one clip after another.

    Args:
        codec: on the CPU, trained.
        data: rows with audio.
        augment: changes what is heard, in all passes but the first. With variable depth, some clips
            are described more finely than others.
        passes: over the data.
        seed: of the changes.
        folder: passes are kept here and not encoded again.
        prior: chooses the codes, at different prices of a bit; None: the nearest codes, at
            different tolerances.

    Returns:
        (num_quantizers, frames) int64.
    """
    folder.mkdir(parents=True, exist_ok=True)
    about = f"{codec.fingerprint().hex()} {data_fingerprint(data)} {seed} {SPEEDS} {augment.config}"
    if prior is not None:
        about += f" {prior.fingerprint.hex()}"
    name = hashlib.sha256(about.encode()).hexdigest()[:12]
    paths = [folder / f"codes-{name}-{i}.safetensors" for i in range(passes)]
    missing = [i for i in range(passes) if not paths[i].is_file()]
    jobs = [
        (codec, data, augment if i else None, [seed, 2, i], i, paths[i], i == missing[0], prior)
        for i in missing
    ]
    workers = min(len(jobs), os.cpu_count() or 1)
    if workers > 1 and len(data) >= WORTH_PROCESSES:
        # A clip is too short for several threads, so passes share the cores.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,)) as pool:
            list(pool.map(_encode_pass, *zip(*jobs, strict=True)))
    else:
        for job in jobs:
            _encode_pass(*job)
    return np.concatenate([load_file(path)["codes"].astype(np.int64) for path in paths], axis=1)


def _encode_pass(
    codec: VQCodecModel,
    data: Dataset,
    augment: Augment | None,
    seed: list[int],
    number: int,
    path: Path,
    with_bar: bool,
    prior: CodePrior | None,
) -> None:
    """Encode all clips into a file, which is there as a whole or not at all."""
    codec.eval()
    fineness = Fineness(codec, typical_clips(data))
    codes = []
    name = f"codes for the prior, pass {number + 1}"
    for i in track(range(len(data)), description=name, disable=not with_bar):
        samples = row_audio(data[i])
        rng = np.random.default_rng([*seed, i])
        if augment is not None:
            if not augment.config.speed:
                samples = change_speed(samples, float(rng.choice(SPEEDS)))
            _, samples = augment(samples, rng)
        refined = float(draw_refined(*torch.from_numpy(rng.random(2))))
        latents = encode_latents(codec, samples)
        n = codec.config.num_quantizers
        if prior is not None:
            choice = CodeChoice(codec, n, fineness.price(refined), prior)
            codes.append(choice.choose(latents).numpy())
        else:
            tolerance = fineness.tolerance(refined) if codec.config.variable_depth else 0.0
            codes.append(codec.quantizer.encode(latents[None], n, tolerance)[0].numpy())
    frames = sum(c.shape[1] for c in codes)
    seconds = frames * codec.config.hop_length / SAMPLING_RATE_HZ
    logger.info("pass %d: %d frames of %.0f s", number + 1, frames, seconds)
    together = np.concatenate(codes, axis=1).astype(np.uint16)
    save_file({"codes": together}, path.with_suffix(".partial"))
    path.with_suffix(".partial").rename(path)
