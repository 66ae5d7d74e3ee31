"""Which tolerances training draws, with variable depth.

They are drawn as the share of frames that goes beyond the first codebook: squared distances mean
something else for each codec.
"""

from collections.abc import Iterable

import numpy as np
import torch

from vqasr.code_prior import CodePrior
from vqasr.encoding import audio_to_stream, encode_latents
from vqasr.mel import SAMPLING_RATE_HZ
from vqasr.modeling_vqcodec import VQCodecModel

# The share of utterances whose frames all use all codebooks, and the smallest share of refined
# frames in the others.
ALL_REFINED = 0.3
FEWEST_REFINED = 0.1
CLIPS = 300
# Shares of refined frames at which rates are measured. (Between the last two, all frames have a
# second codebook and more and more have the others.)
POINTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.995, 1.0)


def draw_refined(whole: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Two uniform draws for each utterance -> its share of refined frames, 1 for tolerance 0."""
    return torch.where(whole < ALL_REFINED, 1.0, FEWEST_REFINED + (1.0 - FEWEST_REFINED) * share)


class Tolerances:
    """Tolerance for a share of refined frames, over typical speech.

    Args:
        codec: trained, with variable depth.
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

    def at(self, refined: float) -> float:
        """Tolerance at which this share of frames uses more than one codebook."""
        return 0.0 if refined >= 1.0 else float(np.quantile(self._distances, 1.0 - refined))

    def draw(self, rng: np.random.Generator) -> float:
        """As the joint stage draws them."""
        return self.at(float(draw_refined(*torch.from_numpy(rng.random(2)))))


def rate_points(
    codec: VQCodecModel, prior: CodePrior, num_quantizers: int, clips: list[np.ndarray]
) -> list[tuple[float, int, float]]:
    """Measure `VQCodecConfig.rate_points` on clips: bytes of their streams, rates rising."""
    seconds = sum(map(len, clips)) / SAMPLING_RATE_HZ
    tolerances = Tolerances(codec, clips)
    points = []
    for refined in POINTS:
        tolerance = tolerances.at(refined)
        size = sum(
            len(audio_to_stream(codec, clip, num_quantizers, prior, tolerance=tolerance))
            for clip in clips
        )
        points.append((round(8 * size / seconds, 1), num_quantizers, round(tolerance, 4)))
    return sorted(points)
