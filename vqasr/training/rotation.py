"""The first codebooks: the latents are rotated into the base dimensions, then k-means."""

from collections.abc import Iterable

import torch
from torch import Tensor

from vqasr.adapters.embedder import CodeEmbedder
from vqasr.codec.modeling import VQCodecModel
from vqasr.training.batches import Batches
from vqasr.training.losses import BASE_VARIANCE, OUTER_SHARE
from vqasr.training.precision import autocast
from vqasr.training.student import Student

KMEANS_FRAMES_PER_CODE = 100  # more change little
# The outer dimensions are scaled up at most this much more than the base dimensions.
MOST_OUTER_SCALE = 3.0


@torch.no_grad()
def fit_codebooks(student: Student, batches: Batches, seed: int) -> int:
    """Rotate the latents and fit the codebooks by k-means; return the number of frames used."""
    codec = student.codec
    latents: list[Tensor] = []
    step = 0
    while sum(map(len, latents)) < KMEANS_FRAMES_PER_CODE * codec.config.codebook_size:
        for piece in batches.pieces(step):
            with autocast(batches.device):
                values, _ = student.encode(piece.audio)
            latents.append(values[piece.frame_mask(piece.lengths)])
        step += 1
    rotated = rotate_latents(codec, student.adapters(), torch.cat(latents))
    codec.quantizer.fit(rotated, torch.Generator().manual_seed(seed))
    return len(rotated)


@torch.no_grad()
def rotate_latents(
    codec: VQCodecModel, embedders: Iterable[CodeEmbedder], latents: Tensor
) -> Tensor:
    """Rotate, shift and scale the latents, and change the modules that read them inversely.

    The strongest `base_dim` principal directions get the variance `BASE_VARIANCE` on average, the
    others together `OUTER_SHARE` of that of the base. Log-mel and embeddings of unquantized latents
    stay the same (but for the end of the log-mel: the decoder pads latents with zeros, which mean
    the average latent afterwards).

    Args:
        codec: its encoder and log-mel decoder are changed.
        embedders: adapters, changed too.
        latents: (frames, latent_dim) of typical speech.

    Returns:
        The same latents, rotated.
    """
    base_dim = codec.quantizer.base_dim
    mean = latents.mean(0)
    variance, directions = torch.linalg.eigh(torch.cov((latents - mean).T.double()))
    variance, directions = variance.flip(0).float(), directions.flip(1).float()
    base = (base_dim * BASE_VARIANCE / variance[:base_dim].sum()).sqrt()
    outer = OUTER_SHARE * base_dim * BASE_VARIANCE / variance[base_dim:].sum().clamp_min(1e-8)
    outer = torch.minimum(outer.sqrt(), MOST_OUTER_SCALE * base)
    scale = torch.cat([base.expand(base_dim), outer.expand(len(variance) - base_dim)])
    forward = (directions * scale).T  # rotated = forward @ (latent - mean)
    backward = directions / scale
    to_latent = codec.encoder.to_latent
    to_latent.bias.copy_(forward @ (to_latent.bias - mean))
    to_latent.weight.copy_(forward @ to_latent.weight)
    for reader in (codec.mel_decoder.from_latent, *(e.from_latent for e in embedders)):
        reader.bias.add_(reader.weight @ mean)
        reader.weight.copy_(reader.weight @ backward)
    for embedder in embedders:
        for latent in (embedder.no_frame, embedder.missing_frame, embedder.closing_frames):
            if latent is not None:
                latent.copy_((latent - mean) @ forward.T)
    return (latents - mean) @ forward.T
