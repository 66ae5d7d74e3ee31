"""The encoder alone, learning on codes as they will be chosen; all that reads codes stays.

Codes chosen for distance and bits together (`CodeChoice`) are not the nearest ones that the joint
stage trains with. Here the encoder hears what comes of them, and is pulled towards what is cheap to
say: rate-distortion training in the sense of arXiv 1611.01704, with the choice itself in place of
a noise model. Codebooks, prior, adapters and decoder are fixed, so that the encoder cannot
run away with the scale of its latents.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from vqasr.adapters.code_embedder import CodeEmbedder
from vqasr.code_choice import CodeChoice
from vqasr.code_prior import CodePrior
from vqasr.modeling_vqcodec import VQCodecModel
from vqasr.prior_config import STOP
from vqasr.quantizer import BASE_CODEBOOKS
from vqasr.training.batches import Batch
from vqasr.training.config import LossConfig, TrainConfig
from vqasr.training.losses import Losses, distillation_parts, weighted_sum
from vqasr.training.prices import Fineness, typical_clips
from vqasr.training.teacher import WhisperTeacher


class UsualCodes:
    """Codes as they are chosen in use: some items with the nearest ones, most at a price.

    Args:
        codec: as it was when the prior was trained; only its codebooks are used, and stay.
        prior: says what codes cost.
        clips: (samples,) float32 each, typical speech that the prices are scaled by.
    """

    def __init__(self, codec: VQCodecModel, prior: CodePrior, clips: Iterable[np.ndarray]):
        self._codec = codec.eval()
        self._prior = prior
        self._fineness = Fineness(codec, clips)

    @classmethod
    def of_start(cls, config: TrainConfig, data: Dataset) -> "UsualCodes":
        """Those of the codec in `start_from`, to which the frozen prior belongs."""
        codec = VQCodecModel.from_pretrained(Path(config.start_from) / "codec")
        return cls(codec, CodePrior.from_pretrained(config.frozen_prior), typical_clips(data))

    @torch.no_grad()
    def __call__(self, latents: Tensor, mask: Tensor, levels: Tensor, refined: Tensor) -> Tensor:
        """Codes of a batch.

        Args:
            latents: (batch, frames, dim).
            mask: (batch, frames) bool, True on real frames.
            levels: (batch,) codebooks of the items that take the nearest codes.
            refined: (batch,) share of refined frames; 1 for the nearest codes.

        Returns:
            (batch, num_quantizers, frames) int64, stops behind the codebooks in use, -1 where
            there is no frame.
        """
        latents = latents.float().cpu()
        count = self._codec.config.num_quantizers
        codes = torch.full((len(latents), count, latents.shape[1]), STOP)
        items = zip(codes, latents, levels.tolist(), refined.tolist(), mask.sum(1), strict=True)
        for row, item, level, share, frames in items:
            n = level if share >= 1.0 else self._prior.config.num_modelled
            price = self._fineness.price(share)
            choice = CodeChoice(self._codec, n, price, self._prior)
            row[:n, :frames] = choice.choose(item[:frames])
        return codes.to(mask.device).masked_fill(~mask[:, None], -1)


def hearing_losses(
    codec: VQCodecModel,
    embedder: CodeEmbedder,
    teacher: WhisperTeacher,
    batch: Batch,
    levels: Tensor,
    refined: Tensor,
    usual_codes: UsualCodes,
    weights: LossConfig,
) -> Losses:
    """As `joint_losses`, for the encoder alone; levels and refined as in `UsualCodes`."""
    latents, mask = codec.encode_latents(batch.heard, batch.sample_mask)
    codes = usual_codes(latents, mask, levels, refined)
    quantized, depths = codec.quantizer.decode(codes), codec.quantizer.depths(codes)
    depths = torch.where(mask, depths, levels[:, None])
    # Dimensions of which the codes say nothing have neither a gradient nor a place to be.
    base_dim = codec.config.base_dim or codec.config.latent_dim
    base = torch.arange(latents.shape[-1], device=mask.device) < base_dim
    said = base | (depths > BASE_CODEBOOKS)[..., None]
    passed_on = quantized + (latents - latents.detach()).float() * said
    parts = distillation_parts(
        codec, embedder, teacher, batch, passed_on, mask, depths, with_mel=True, with_decoder=True
    )
    distance = (latents.float() - quantized).square() * (said & mask[..., None])
    parts["commitment"] = distance.sum() / (mask.sum() * latents.shape[-1])
    return weighted_sum(parts, weights)
