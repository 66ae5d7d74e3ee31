"""Turn the latents so that the codebooks' base dimensions hold their strongest directions."""

from collections.abc import Iterable

import torch
from torch import Tensor

from vqasr.adapters.embedder import CodeEmbedder
from vqasr.codec.modeling import VQCodecModel
from vqasr.training.losses import BASE_VARIANCE, OUTER_SHARE

# The outer dimensions are not blown up further than this beyond the base dimensions.
MOST_BLOWN_UP = 3.0


@torch.no_grad()
def rotate_latents(
    codec: VQCodecModel, embedders: Iterable[CodeEmbedder], latents: Tensor
) -> Tensor:
    """Rotate, shift and scale the latents; what reads them is changed the other way.

    Principal directions; the strongest `base_dim` of them get the variance `BASE_VARIANCE` on
    average, the others together `OUTER_SHARE` of that of the base. Log-mel and embeddings of
    unquantized latents stay as they are (but for the end of the log-mel: the decoder pads latents
    with zeros, which mean the average latent afterwards).

    Args:
        codec: its encoder and log-mel decoder are changed.
        embedders: adapters, changed too.
        latents: (frames, latent_dim) of typical speech.

    Returns:
        The same latents, rotated.
    """
    base_dim = codec.config.base_dim or codec.config.latent_dim
    mean = latents.mean(0)
    variance, directions = torch.linalg.eigh(torch.cov((latents - mean).T.double()))
    variance, directions = variance.flip(0).float(), directions.flip(1).float()
    base = (base_dim * BASE_VARIANCE / variance[:base_dim].sum()).sqrt()
    outer = OUTER_SHARE * base_dim * BASE_VARIANCE / variance[base_dim:].sum().clamp_min(1e-8)
    outer = torch.minimum(outer.sqrt(), MOST_BLOWN_UP * base)
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
        learned = (embedder.no_frame, embedder.missing_frame, embedder.closing_frames)
        for latent in learned:
            if latent is not None:
                latent.copy_((latent - mean) @ forward.T)
    return (latents - mean) @ forward.T
