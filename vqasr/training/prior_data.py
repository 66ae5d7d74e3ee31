"""Codes to train a prior on: the training recordings, as they are and changed."""

import hashlib
import logging
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from rich.progress import track
from safetensors.numpy import load_file, save_file

from vqasr.data import data_fingerprint, row_audio
from vqasr.encoding import encode_audio
from vqasr.mel import SAMPLING_RATE_HZ
from vqasr.modeling_vqcodec import VQCodecModel
from vqasr.training.augment import Augment, change_speed
from vqasr.training.tolerances import CLIPS, Tolerances

# Other speeds are other voices, and the residual codebooks hear voices before words.
SPEEDS = (0.85, 0.9, 0.95, 1.0, 1.06, 1.12)

logger = logging.getLogger("vqasr.train")


def training_codes(
    codec: VQCodecModel, data: Dataset, augment: Augment, passes: int, seed: int, folder: Path
) -> np.ndarray:
    """All codes of `passes` passes over the data, one clip after another.

    Args:
        codec: on the CPU, trained.
        data: rows with audio.
        augment: changes what is heard, in all passes but the first. With variable depth, clips are
            encoded at different tolerances.
        passes: over the data.
        seed: of the changes.
        folder: passes are kept here and not encoded again.

    Returns:
        (num_quantizers, frames) int64.
    """
    folder.mkdir(parents=True, exist_ok=True)
    about = f"{codec.fingerprint().hex()} {data_fingerprint(data)} {seed} {SPEEDS} {augment.config}"
    name = hashlib.sha256(about.encode()).hexdigest()[:12]
    parts = []
    for i in range(passes):
        path = folder / f"codes-{name}-{i}.safetensors"
        if not path.is_file():
            codes = _encode_all(codec, data, augment if i else None, [seed, 2, i], i)
            save_file({"codes": codes.astype(np.uint16)}, path.with_suffix(".partial"))
            path.with_suffix(".partial").rename(path)
        parts.append(load_file(path)["codes"].astype(np.int64))
    return np.concatenate(parts, axis=1)


def _encode_all(
    codec: VQCodecModel, data: Dataset, augment: Augment | None, seed: list[int], number: int
) -> np.ndarray:
    codec.eval()
    tolerances = None
    if codec.config.variable_depth:
        some = np.random.default_rng(0).permutation(len(data))[:CLIPS]
        tolerances = Tolerances(codec, (row_audio(data[int(i)]) for i in some))
    codes = []
    for i in track(range(len(data)), description=f"codes for the prior, pass {number + 1}"):
        samples = row_audio(data[i])
        rng = np.random.default_rng([*seed, i])
        if augment is not None:
            if not augment.config.speed:
                samples = change_speed(samples, float(rng.choice(SPEEDS)))
            _, samples = augment(samples, rng)
        tolerance = tolerances.draw(rng) if tolerances else 0.0
        with torch.no_grad():
            codes.append(encode_audio(codec, samples, tolerance=tolerance))
    frames = sum(c.shape[1] for c in codes)
    seconds = frames * codec.config.hop_length / SAMPLING_RATE_HZ
    logger.info("pass %d: %d frames of %.0f s", number + 1, frames, seconds)
    return np.concatenate(codes, axis=1)
