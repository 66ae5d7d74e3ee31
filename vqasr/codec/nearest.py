"""Nearest-neighbour search and k-means."""

import torch
from torch import Tensor


def nearest(frames: Tensor, codebook: Tensor) -> Tensor:
    """Return the index of the nearest of (size, dim) codes for each of (frames, dim) vectors."""
    # |x - c|^2 without |x|^2, which is the same for every c.
    codebook = codebook.float()
    with torch.autocast(frames.device.type, enabled=False):  # would pick other codes
        return torch.addmm(codebook.square().sum(1), frames, codebook.T, alpha=-2.0).argmin(1)


ITERATIONS = 10  # of k-means


def kmeans(frames: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Cluster (frames, dim) float32 into (size, dim) centres (Lloyd's algorithm).

    Raises:
        ValueError: there are fewer frames than centres.
    """
    if len(frames) < size:
        raise ValueError(
            f"k-means needs at least as many frames as codes: {len(frames)} frames, "
            f"{size} codes. Give it more audio or a smaller codebook_size."
        )
    order = torch.randperm(len(frames), generator=generator).to(frames.device)
    centres = frames[order[:size]].clone()
    for _ in range(ITERATIONS):
        code = nearest(frames, centres)
        count = torch.bincount(code, minlength=size)
        total = torch.zeros_like(centres).index_add_(0, code, frames)
        centres = total / count.clamp_min(1)[:, None]
        empty = (count == 0).nonzero()[:, 0]
        draw = torch.randint(len(frames), (len(empty),), generator=generator).to(frames.device)
        centres[empty] = frames[draw]
    return centres
