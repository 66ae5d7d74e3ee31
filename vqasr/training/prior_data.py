"""Codes to train a prior on: the training recordings, as they are and augmented.

With variable depth, each clip draws its share of refined frames: those that use more than the first
codebook. Squared distances differ between codecs, so tolerances and bit prices are relative to
those of typical speech.
"""

import copy
import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from safetensors.numpy import load_file, save
from torch import Tensor

from vqasr.codec.modeling import VQCodecModel
from vqasr.compression.choice import CodeChoice
from vqasr.compression.compress import encode_latents
from vqasr.entropy.prior import CodePrior
from vqasr.files import replace_file
from vqasr.training.batches import FEWEST_REFINED, Batches

BATCH_S = 96.0  # seconds of audio that are encoded together
TYPICAL_CLIPS = 300  # recordings that stand for typical speech
# Prices of a bit for the smallest share of refined frames and for nearly all frames, as fractions
# of the mean squared distance that the first codebook leaves.
HIGHEST_PRICE, LOWEST_PRICE = 0.13, 0.008


class RateSchedule:
    """Tolerances and bit prices of a codec for shares of refined frames.

    `clips` are (samples,) float32 of typical speech; a few hundred are enough.
    """

    @torch.no_grad()
    def __init__(self, codec: VQCodecModel, clips: Iterable[np.ndarray]):
        distances = []
        for clip in clips:
            latents = encode_latents(codec, clip)[None]
            first = codec.quantizer.decode(codec.quantizer.encode(latents, 1))
            distances.append((latents - first).square().sum(-1)[0].numpy())
        self._distances = np.concatenate(distances)
        self.mean_distance = float(self._distances.mean())

    def tolerance(self, refined: float) -> float:
        """Return the squared distance that this share of frames exceeds."""
        return 0.0 if refined >= 1.0 else float(np.quantile(self._distances, 1.0 - refined))

    def bit_price(self, refined: float) -> float:
        """Return the price of a bit, falling from the highest to the lowest; 0 at share 1."""
        if refined >= 1.0:
            return 0.0
        part = (refined - FEWEST_REFINED) / (1.0 - FEWEST_REFINED)
        return HIGHEST_PRICE * (LOWEST_PRICE / HIGHEST_PRICE) ** part * self.mean_distance


def training_codes(
    codec: VQCodecModel,
    batches: Batches,
    passes: int,
    seed: int,
    folder: Path,
    prior: CodePrior | None = None,
) -> np.ndarray:
    """Encode the data `passes` times and join the codes of all clips.

    Args:
        codec: trained, on the CPU.
        batches: of the recordings; all passes but the first are augmented.
        passes: over the data.
        seed: of the augmentation.
        folder: passes are kept here and not encoded again.
        prior: chooses the codes, at different prices of a bit; None: the nearest codes, at
            different tolerances.

    Returns:
        (num_quantizers, frames) int64.
    """
    source = f"{codec.fingerprint().hex()} {batches.fingerprint()} {seed}"
    if prior is not None:
        source += f" {prior.fingerprint.hex()}"
    name = hashlib.sha256(source.encode()).hexdigest()[:12]
    codes = []
    for i in range(passes):
        path = folder / f"codes-{name}-{i}.safetensors"
        if not path.is_file():
            clips = _encode_pass(codec, batches, [seed, 2, i], i > 0, prior)
            title, total = f"encoding, pass {i + 1}", len(batches.recordings)
            joined = np.concatenate([*track(clips, title, total)], axis=1)
            replace_file(path, save({"codes": joined.astype(np.uint16)}))
        codes.append(load_file(path)["codes"].astype(np.int64))
    return np.concatenate(codes, axis=1)


@torch.no_grad()
def _encode_pass(
    codec: VQCodecModel, batches: Batches, seed: list[int], augmented: bool, prior: CodePrior | None
) -> Iterator[np.ndarray]:
    """Yield the codes (num_quantizers, frames) of every clip."""
    codec.eval()
    encoder = copy.deepcopy(codec.encoder).to(batches.device)
    recordings, n = batches.recordings, codec.config.num_quantizers
    typical = np.random.default_rng(0).permutation(len(recordings))[:TYPICAL_CLIPS]
    schedule = RateSchedule(codec, map(recordings.samples, typical))

    def choose(latents: Tensor, refined: float) -> np.ndarray:
        if prior is not None:
            choice = CodeChoice(codec, n, schedule.bit_price(refined), prior)
            return choice.choose(latents).numpy()
        tolerance = schedule.tolerance(refined) if codec.config.variable_depth else 0.0
        return codec.quantizer.encode(latents[None], n, tolerance)[0].numpy()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for batch in batches.one_pass(seed, BATCH_S, augmented):
            latents = encoder(batch.audio).cpu()
            frames = (-(-batch.lengths // codec.config.hop_length)).tolist()
            clips = [row[:length] for row, length in zip(latents, frames, strict=True)]
            yield from pool.map(choose, clips, batch.refined.tolist())
