"""Prices of a bit: those that the prior learns with, and those at which rates are measured.

A clip draws the share of its frames that goes beyond the first codebook. Squared distances mean
something else for each codec, so tolerances and prices are scaled by those of typical speech.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import torch

from vqasr.codec.modeling import VQCodecModel
from vqasr.compression.compress import encode_audio, encode_latents, stream_of
from vqasr.entropy.prior import CodePrior
from vqasr.grid import SAMPLING_RATE_HZ
from vqasr.training.batches import FEWEST_REFINED
from vqasr.training.recordings import Recordings

CLIPS = 300
# The prices that shares between the smallest and 1 stand for, and those at which rates are
# measured, as fractions of the mean squared distance that the first codebook leaves.
HIGHEST_PRICE, LOWEST_PRICE = 0.13, 0.008
POINTS = (
    0.22, 0.16, 0.13, 0.11, 0.095, 0.08, 0.068, 0.057, 0.048, 0.04, 0.032, 0.025, 0.019, 0.014,
    0.009, 0.0,
)  # fmt: skip


class Fineness:
    """Tolerances and prices for shares of refined frames, over typical speech.

    Args:
        codec: trained.
        clips: (samples,) float32 each; a few hundred are enough.
    """

    @torch.no_grad()
    def __init__(self, codec: VQCodecModel, clips: Iterable[np.ndarray]):
        distances = []
        for clip in clips:
            latents = encode_latents(codec, clip)[None]
            first = codec.quantizer.decode(codec.quantizer.encode(latents, 1))
            distances.append((latents - first).square().sum(-1)[0].numpy())
        self._distances = np.concatenate(distances)

    def tolerance(self, refined: float) -> float:
        """Tolerance at which this share of frames uses more than one codebook."""
        return 0.0 if refined >= 1.0 else float(np.quantile(self._distances, 1.0 - refined))

    def price(self, refined: float) -> float:
        """Price of a bit, falling with the share from the highest to the lowest; 0 at 1."""
        if refined >= 1.0:
            return 0.0
        part = (refined - FEWEST_REFINED) / (1.0 - FEWEST_REFINED)
        return self.scaled(HIGHEST_PRICE * (LOWEST_PRICE / HIGHEST_PRICE) ** part)

    def scaled(self, fraction: float) -> float:
        """Price of a bit that is this fraction of the distance that the first codebook leaves."""
        return fraction * float(self._distances.mean())


def typical_clips(recordings: Recordings) -> Iterator[np.ndarray]:
    """Some recordings, (samples,) float32 each."""
    some = np.random.default_rng(0).permutation(len(recordings))[:CLIPS]
    return map(recordings.samples, some)


def price_points(
    codec: VQCodecModel, prior: CodePrior, num_quantizers: int, clips: list[np.ndarray]
) -> list[tuple[float, int, float]]:
    """Measure `VQCodecConfig.price_points` on clips: bytes of their streams, rates rising."""
    seconds = sum(map(len, clips)) / SAMPLING_RATE_HZ
    fineness = Fineness(codec, clips)
    points = []
    for fraction in POINTS:
        price = round(fineness.scaled(fraction), 4)
        size = 0
        for clip in clips:
            codes = encode_audio(codec, clip, num_quantizers, price, prior)
            size += len(stream_of(codec, codes, len(clip), prior=prior).to_bytes())
        points.append((round(8 * size / seconds, 1), num_quantizers, price))
    return sorted(points)
