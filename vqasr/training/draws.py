"""How many codebooks an utterance of a batch uses, and how finely; drawn by seed and step alone."""

import torch
from torch import Tensor

from vqasr.modeling_vqcodec import VQCodecModel
from vqasr.training.batches import Batch
from vqasr.training.config import TrainConfig, drawn_levels
from vqasr.training.prices import draw_refined


def draw_levels(config: TrainConfig, batch: Batch, step: int) -> Tensor:
    """(batch,) int64, how many codebooks each item may use."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    choices = torch.tensor(drawn_levels(config))
    weights = torch.tensor(list(config.levels.values()), dtype=torch.float)
    drawn = torch.multinomial(weights, len(batch.texts), True, generator=generator)
    return choices[drawn].to(batch.heard.device)


def draw_shares(config: TrainConfig, codec: VQCodecModel, batch: Batch, step: int) -> Tensor | None:
    """(batch,) share of frames beyond the first codebook; None without variable depth."""
    if not codec.config.variable_depth:
        return None
    generator = torch.Generator().manual_seed(config.seed * 1_000_037 + step)
    draws = torch.rand(2, len(batch.texts), generator=generator)
    return draw_refined(*draws).to(batch.heard.device)
