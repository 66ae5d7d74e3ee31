"""What each stage minimises."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vqasr.adapters.code_embedder import CodeEmbedder
from vqasr.mel import clip_log_mel
from vqasr.modeling_vqcodec import VQCodecModel
from vqasr.quantizer import QuantizerOutput
from vqasr.training.batches import Batch
from vqasr.training.config import LossConfig
from vqasr.training.teacher import WhisperTeacher

# A lost chunk: 1 s of frames at 25 Hz.
LOSS_CHUNK_FRAMES = 25
HIGHEST_LOSS = 0.3
POSITIONS = 64


@dataclass
class Losses:
    """The sum to minimise and its parts for the log."""

    total: Tensor
    parts: dict[str, Tensor]


def reconstruction_error(mel: Tensor, clean: Tensor, frame_mask: Tensor) -> Tensor:
    """Mean squared log-mel error on real frames, as a fraction of the log-mel's variance.

    Args:
        mel: (batch, 4 x frames, 80) decoded.
        clean: (batch, samples) the audio that is wanted.
        frame_mask: (batch, frames) bool.
    """
    target = clip_log_mel(clean)
    frames = min(target.shape[1], mel.shape[1])
    target, mel = target[:, :frames], mel[:, :frames].float()
    # Weights and not target[mask]: the gradient of boolean indexing runs on one core.
    weight = frame_mask.repeat_interleave(4, dim=1)[:, :frames, None].float()
    values = weight.sum() * target.shape[2]
    mean = (target * weight).sum() / values
    variance = ((target - mean).square() * weight).sum() / values
    return ((mel - target).square() * weight).sum() / values / variance.clamp_min(1e-4)


def relative_distance(student: Tensor, teacher: Tensor, exists: Tensor | None = None) -> Tensor:
    """Mean squared distance over the variance of each channel, where frames exist.

    A few of Whisper's channels carry most of the variance; half of the mean variance is added to
    each channel's own, so that small channels count too without being blown up.
    """
    frames = min(student.shape[1], teacher.shape[1])
    student, teacher = student[:, :frames].float(), teacher[:, :frames].float()
    variance = teacher.flatten(0, 1).var(0)
    distance = ((student - teacher).square() / (0.5 * variance + 0.5 * variance.mean())).mean(-1)
    if exists is None:
        return distance.mean()
    weight = exists[:, :frames].float()
    return (distance * weight).sum() / weight.sum().clamp_min(1.0)


def autoencoder_losses(
    codec: VQCodecModel, embedder: CodeEmbedder, teacher: WhisperTeacher, batch: Batch
) -> Losses:
    """Stage 1: reconstruct the log-mel and, through the adapter, the recogniser's embeddings."""
    latents, mask = codec.encode_latents(batch.heard, batch.sample_mask)
    mel = reconstruction_error(codec.mel_decoder(latents), batch.clean, mask)
    levels = torch.zeros(len(latents), 1, dtype=torch.long, device=latents.device)
    with torch.no_grad():
        target = teacher.stem(batch.clean)
    stem = relative_distance(embedder.embed_latents(latents, mask, levels), target)
    return Losses(mel + stem, {"reconstruction": mel, "stem": stem})


def joint_losses(
    codec: VQCodecModel,
    embedder: CodeEmbedder,
    teacher: WhisperTeacher,
    batch: Batch,
    levels: Tensor,
    weights: LossConfig,
    with_decoder: bool,
    refined: Tensor | None = None,
) -> Losses:
    """Stage 3: codec and adapter together (or the adapter alone), distilling the recogniser.

    Args:
        levels: (batch,) codebooks that each item may use, 0 for unquantized.
        with_decoder: include the decoder's predictions.
        refined: (batch,) see `Quantizer.forward`.
    """
    latents, mask = codec.encode_latents(batch.heard, batch.sample_mask)
    quantized = codec.quantizer(latents, levels, mask, refined)
    depths = torch.where(mask, quantized.depths, levels[:, None])
    parts = distillation_parts(
        codec, embedder, teacher, batch, quantized.quantized, mask, depths, codec.training,
        with_decoder,
    )  # fmt: skip
    if codec.training:  # not a finished codec, for which an adapter is trained
        parts["commitment"] = quantized.commitment_loss
    return weighted_sum(parts, weights)


def distillation_parts(
    codec: VQCodecModel,
    embedder: CodeEmbedder,
    teacher: WhisperTeacher,
    batch: Batch,
    quantized: Tensor,
    mask: Tensor,
    depths: Tensor,
    with_mel: bool,
    with_decoder: bool,
) -> dict[str, Tensor]:
    """How far what is heard through the adapter is from what the recogniser hears.

    Args:
        quantized: (batch, frames, latent_dim).
        mask: (batch, frames) bool, True on real frames.
        depths: (batch, frames) int, codebooks that describe a frame.
        with_mel: include the error of the decoded log-mel.
        with_decoder: include the decoder's predictions.
    """
    embeddings = embedder.embed_latents(quantized, mask, depths)
    with torch.no_grad():
        stem = teacher.stem(batch.clean)
        wanted = teacher.layers(stem)
    heard = teacher.layers(embeddings)
    parts = {
        "stem": relative_distance(embeddings, stem),
        "layers": layer_distance(heard, wanted),
    }
    if with_mel:
        mel = codec.mel_decoder(quantized)
        parts["reconstruction"] = reconstruction_error(mel, batch.clean, mask)
    if with_decoder:
        parts |= decoder_parts(teacher, heard[-1], wanted[-1], batch.texts)
    return parts


def gap_losses(
    codec: VQCodecModel,
    embedder: CodeEmbedder,
    teacher: WhisperTeacher,
    batch: Batch,
    levels: Tensor,
    weights: LossConfig,
    generator: torch.Generator,
    refined: Tensor | None = None,
) -> Losses:
    """Stage 4: the adapter learns what a lost frame is to look like; all else stays as it is.

    Args:
        levels: (batch,) codebooks that each item may use, 0 for unquantized.
        generator: decides what is lost: up to 30 % of each item's chunks of 1 s.
        refined: (batch,) see `Quantizer.forward`.
    """
    mask, output, stem, wanted = coded_and_wanted(codec, teacher, batch, levels, refined)
    missing = lost_frames(len(mask), mask.shape[1], generator).to(mask.device) & mask
    quantized = torch.where(missing[..., None], embedder.missing_frame, output.quantized)
    depths = torch.where(mask & ~missing, output.depths, levels[:, None])
    embeddings = embedder.embed_latents(quantized, mask, depths)
    heard = teacher.layers(embeddings)
    parts = {
        "stem": relative_distance(embeddings, stem),
        "layers": layer_distance(heard, wanted),
        **decoder_parts(teacher, heard[-1], wanted[-1], batch.texts),
    }
    return weighted_sum(parts, weights)


@torch.no_grad()
def coded_and_wanted(
    codec: VQCodecModel,
    teacher: WhisperTeacher,
    batch: Batch,
    levels: Tensor,
    refined: Tensor | None,
) -> tuple[Tensor, QuantizerOutput, Tensor, list[Tensor]]:
    """What a finished codec makes of a batch, and what the recogniser makes of the clean audio.

    Returns:
        mask (batch, frames) bool of real frames, the quantizer's output, and the recogniser's own
        embeddings and layers.
    """
    latents, mask = codec.encode_latents(batch.heard, batch.sample_mask)
    stem = teacher.stem(batch.clean)
    return mask, codec.quantizer(latents, levels, mask, refined), stem, teacher.layers(stem)


def lost_frames(items: int, frames: int, generator: torch.Generator) -> Tensor:
    """(items, frames) bool: frames of chunks of 1 s that were lost."""
    chunks = -(-frames // LOSS_CHUNK_FRAMES)
    share = torch.rand(items, 1, generator=generator) * HIGHEST_LOSS
    lost = torch.rand(items, chunks, generator=generator) < share
    return lost.repeat_interleave(LOSS_CHUNK_FRAMES, dim=1)[:, :frames]


def layer_distance(
    heard: list[Tensor], wanted: list[Tensor], exists: Tensor | None = None
) -> Tensor:
    """`relative_distance`, mean over layers."""
    distances = [relative_distance(a, b, exists) for a, b in zip(heard, wanted, strict=True)]
    return torch.stack(distances).mean()


def weighted_sum(parts: dict[str, Tensor], weights: LossConfig) -> Losses:
    """Parts with their weights; each part is named as its weight."""
    total = torch.stack([getattr(weights, name) * part for name, part in parts.items()]).sum()
    return Losses(total, parts)


def decoder_parts(
    teacher: WhisperTeacher,
    heard: Tensor,
    wanted: Tensor,
    texts: list[str],
    exists: Tensor | None = None,
) -> dict[str, Tensor]:
    """The decoder's predictions, teacher-forced on transcripts, in nats a token.

    "decoder": Kullback-Leibler divergence from its predictions on the clean audio; "transcript":
    cross-entropy of what was really said. With `exists`, (batch, frames) bool of `heard`, also
    "end": cross-entropy of the end, which the teacher does not find without padding.
    """
    tokens, mask = teacher.tokens(texts, heard.device, end=exists is not None)
    positions, weight = _filled_up(mask)
    with torch.no_grad():
        target = teacher.predictions(wanted, tokens, positions).float().log_softmax(-1)
    predicted = teacher.predictions(heard, tokens, positions, exists).float().log_softmax(-1)
    divergence = F.kl_div(predicted, target, log_target=True, reduction="none").sum(-1)
    # The token that a position predicts is the next one; the last position predicts none.
    said = -predicted.gather(1, tokens.roll(-1, dims=1).flatten()[positions, None])[:, 0]
    parts = {}
    if exists is not None:
        last = mask & (mask.cumsum(1) == mask.sum(1, keepdim=True))
        end = weight * last.flatten()[positions]
        parts["end"] = (said * end).sum() / end.sum().clamp_min(1.0)
        weight = weight - end
    count = weight.sum().clamp_min(1.0)
    parts["decoder"] = (divergence * weight).sum() / count
    parts["transcript"] = (said * weight).sum() / count
    return parts


def _filled_up(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of the True ones of a flattened mask, and their weights.

    Filled up with weightless ones to a multiple of 64, so that matrices come in a few shapes only.
    """
    positions = mask.flatten().nonzero()[:, 0]
    missing = -len(positions) % POSITIONS
    weight = F.pad(torch.ones(len(positions), device=mask.device), (0, missing))
    return F.pad(positions, (0, missing)), weight
