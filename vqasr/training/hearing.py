"""The encoder alone, learning on codes as they will be chosen; all that reads codes stays.

Codes chosen for distance and bits together (`CodeChoice`) are not the nearest ones that the joint
stage trains with. Here the encoder hears what comes of them, and is pulled towards what is cheap to
say: rate-distortion training in the sense of arXiv 1611.01704, with the choice itself in place of
a noise model. Codebooks, adapters and decoder are fixed, so that the encoder cannot run away with
the scale of its latents. With a weight for bits the prior learns along, on the codes of each step.
"""

import copy
import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from torch import Tensor

from vqasr.adapters.code_embedder import CodeEmbedder
from vqasr.code_choice import CodeChoice
from vqasr.code_prior import CodePrior
from vqasr.modeling_vqcodec import VQCodecModel
from vqasr.prior_config import STOP
from vqasr.quantizer import BASE_CODEBOOKS, Quantizer
from vqasr.training.batches import Batch
from vqasr.training.config import LossConfig, TrainConfig
from vqasr.training.losses import Losses, distillation_parts, weighted_sum
from vqasr.training.prices import Fineness, typical_clips
from vqasr.training.prior_network import PriorNetwork
from vqasr.training.teacher import WhisperTeacher

# Steps after which codes are chosen with what the prior has learned.
RENEW_EVERY = 50


class UsualCodes:
    """Codes as they are chosen in use: some items with the nearest ones, most at a price.

    Args:
        codec: as it was when the prior was trained; only its codebooks are used, and stay.
        prior: says what codes cost.
        clips: (samples,) float32 each, typical speech that the prices are scaled by.
        prices: the highest and the lowest, see `TrainConfig`.
    """

    def __init__(
        self,
        codec: VQCodecModel,
        prior: CodePrior,
        clips: Iterable[np.ndarray],
        prices: tuple[float, float],
    ):
        self._codec = codec.eval()
        self._fineness = Fineness(codec, clips, prices)
        self.prior = prior
        # Says the same as the prior, and learns.
        self.network = PriorNetwork(prior.config)
        self.network.go_on_from(prior)

    @classmethod
    def of_start(cls, config: TrainConfig, data: Dataset) -> "UsualCodes":
        """Those of the codec in `start_from`, to which the prior belongs."""
        codec = VQCodecModel.from_pretrained(Path(config.start_from) / "codec")
        prior = CodePrior.from_pretrained(config.choosing_prior)
        return cls(codec, prior, typical_clips(data), (config.prices[0], config.prices[1]))

    def renew(self) -> None:
        """Choose with what the network has learned from now on."""
        self.prior = copy.deepcopy(self.network).cpu().to_prior()

    def prices(self, refined: Tensor) -> Tensor:
        """(batch,) shares of refined frames -> (batch,) prices of a bit, 0 for the nearest."""
        return torch.tensor([self._fineness.price(share) for share in refined.tolist()])

    @torch.no_grad()
    def __call__(self, latents: Tensor, mask: Tensor, levels: Tensor, prices: Tensor) -> Tensor:
        """Codes of a batch.

        Args:
            latents: (batch, frames, dim).
            mask: (batch, frames) bool, True on real frames.
            levels: (batch,) codebooks of the items that take the nearest codes.
            prices: (batch,) of a bit; 0 for the nearest codes.

        Returns:
            (batch, num_quantizers, frames) int64, stops behind the codebooks in use, -1 where
            there is no frame.
        """
        latents = latents.float().cpu()
        count = self._codec.config.num_quantizers
        codes = torch.full((len(latents), count, latents.shape[1]), STOP)
        items = zip(codes, latents, levels.tolist(), prices.tolist(), mask.sum(1), strict=True)
        for row, item, level, price, frames in items:
            n = self.prior.config.num_modelled if price else level
            choice = CodeChoice(self._codec, n, price, self.prior)
            row[:n, :frames] = choice.choose(item[:frames])
        return codes.to(mask.device).masked_fill(~mask[:, None], -1)

    def bits(
        self,
        quantizer: Quantizer,
        latents: Tensor,
        codes: Tensor,
        mask: Tensor,
        levels: Tensor,
        prices: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """What codes cost, for the encoder and for the prior.

        A choice has no gradient. The encoder's is that of a softer one: each code of a codebook
        has the probability 2^-(squared distance / price + bits), which favours the same codes.

        Args:
            quantizer: the codec's, where the latents are.
            latents: (batch, frames, dim), with gradient.
            codes: those that were chosen.
            mask, levels, prices: as for the choice.

        Returns:
            rate: scalar, price x expected bits of the codebooks of the base dimensions, mean over
                frames and dimensions as the commitment is; gradient to the latents alone.
            learned: scalar, mean bits of a frame; gradient to the network alone.
        """
        n = self.prior.config.num_modelled
        said = codes.clamp_min(0)
        logits = self.network(said, list(range(n)))
        # Nearest codes of a few codebooks are written by the prior as so many, not as n.
        counts = mask & ((prices > 0) | (levels >= n))[:, None]
        frames = counts.sum().clamp_min(1)
        learned, rate = latents.new_zeros(()), latents.new_zeros(())
        codebooks: Tensor = quantizer.codebooks  # type: ignore[assignment]
        base = quantizer.base_dim
        left = latents[..., :base].float()
        scale = torch.where(prices > 0, prices, 1.0)[:, None, None]
        priced = mask * prices[:, None]
        for j, one in enumerate(logits):
            bits = -one.float().log_softmax(-1) / math.log(2.0)
            spent = bits.gather(2, said[:, j, :, None])[..., 0]
            # A stop after a stop is certain.
            spent = spent * (counts if j < 2 else counts & (said[:, j - 1] != STOP))
            learned = learned + spent.sum() / frames
            if j < BASE_CODEBOOKS:
                codebook = codebooks[j, :, :base].float()
                distance = left.square().sum(-1, keepdim=True) - 2.0 * left @ codebook.T
                distance = distance + codebook.square().sum(1)
                bits = bits.detach()
                likely = F.softmax(-math.log(2.0) * (distance / scale + bits), dim=-1)
                rate = rate + ((likely * bits).sum(-1) * priced).sum()
                left = left - codebook[said[:, j]]
        return rate / (mask.sum() * latents.shape[-1]), learned


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
    prices = usual_codes.prices(refined)
    codes = usual_codes(latents, mask, levels, prices)
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
    if not weights.rate:
        return weighted_sum(parts, weights)
    parts["rate"], learned = usual_codes.bits(
        codec.quantizer, latents, codes, mask, levels, prices.to(mask.device)
    )
    losses = weighted_sum(parts, weights)
    return Losses(losses.total + learned, parts | {"bits_per_frame": learned.detach()})
