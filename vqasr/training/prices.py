"""How finely training describes its utterances, with variable depth.

An utterance draws the share of its frames that goes beyond the first codebook: squared distances
mean something else for each codec. Until there is a code prior a tolerance makes the others stop;
afterwards a price of a bit does, as it will when the codec is used.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from datasets import Dataset

from vqasr.code_prior import CodePrior
from vqasr.data import row_audio
from vqasr.encoding import audio_to_stream, encode_latents
from vqasr.mel import SAMPLING_RATE_HZ
from vqasr.modeling_vqcodec import VQCodecModel

# The share of utterances whose frames all use all codebooks, and the smallest share of refined
# frames in the others.
ALL_REFINED = 0.3
FEWEST_REFINED = 0.1
CLIPS = 300
# The prices that shares between the smallest and 1 stand for, and those at which rates are
# measured, as fractions of the mean squared distance that the first codebook leaves.
HIGHEST_PRICE, LOWEST_PRICE = 0.13, 0.008
POINTS = (
    0.22, 0.16, 0.13, 0.11, 0.095, 0.08, 0.068, 0.057, 0.048, 0.04, 0.032, 0.025, 0.019, 0.014,
    0.009, 0.0,
)  # fmt: skip


def draw_refined(whole: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Two uniform draws for each utterance -> its share of refined frames, 1 for all."""
    return torch.where(whole < ALL_REFINED, 1.0, FEWEST_REFINED + (1.0 - FEWEST_REFINED) * share)


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


def typical_clips(data: Dataset) -> Iterator[np.ndarray]:
    """Some of a data set's clips, (samples,) float32 each."""
    some = np.random.default_rng(0).permutation(len(data))[:CLIPS]
    return (row_audio(data[int(i)]) for i in some)


def price_points(
    codec: VQCodecModel, prior: CodePrior, num_quantizers: int, clips: list[np.ndarray]
) -> list[tuple[float, int, float]]:
    """Measure `VQCodecConfig.price_points` on clips: bytes of their streams, rates rising."""
    seconds = sum(map(len, clips)) / SAMPLING_RATE_HZ
    fineness = Fineness(codec, clips)
    points = []
    for fraction in POINTS:
        price = round(fineness.scaled(fraction), 4)
        size = sum(
            len(audio_to_stream(codec, clip, num_quantizers, prior, bit_price=price))
            for clip in clips
        )
        points.append((round(8 * size / seconds, 1), num_quantizers, price))
    return sorted(points)
