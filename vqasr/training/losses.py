"""What training minimises."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vqasr.adapters.embedder import CodeEmbedder
from vqasr.codec.mel import log_mel
from vqasr.training.config import LossConfig
from vqasr.training.teacher import WhisperTeacher
from vqasr.training.texts import BLANK, Wanted

# Variance of the latents: of a base dimension, and of all others together as a share of all base
# dimensions together. Without such targets the straight-through gradient makes them grow without
# end: what is larger is less disturbed (recipes/train_codec/EXPERIMENTS.md, 2026-11-25).
BASE_VARIANCE = 1.0
OUTER_SHARE = 0.06


def reconstruction_error(mel: Tensor, power: Tensor, frame_mask: Tensor) -> Tensor:
    """Mean squared log-mel error on real frames, as a fraction of the log-mel's variance.

    Args:
        mel: (batch, 4 x frames, 80) decoded.
        power: (batch, 4 x frames, 80) mel power of the audio that is wanted.
        frame_mask: (batch, frames) bool.
    """
    frames = min(power.shape[1], mel.shape[1])
    target, mel = log_mel(power[:, :frames]), mel[:, :frames].float()
    # Weights and not target[mask]: the gradient of boolean indexing runs on one core.
    weight = frame_mask.repeat_interleave(4, dim=1)[:, :frames, None].float()
    values = (weight.sum() * target.shape[2]).clamp_min(1.0)
    mean = (target * weight).sum() / values
    variance = ((target - mean).square() * weight).sum() / values
    return ((mel - target).square() * weight).sum() / values / variance.clamp_min(1e-4)


def relative_distance(student: Tensor, teacher: Tensor, exists: Tensor | None = None) -> Tensor:
    """Mean squared distance over the variance of each channel, where frames exist.

    A few of Whisper's channels carry most of the variance; half of the mean variance is added to
    half of each channel's own, so that small channels count too without being blown up.
    """
    frames = min(student.shape[1], teacher.shape[1])
    student, teacher = student[:, :frames].float(), teacher[:, :frames].float()
    variance = teacher.flatten(0, 1).var(0)
    distance = ((student - teacher).square() / (0.5 * variance + 0.5 * variance.mean())).mean(-1)
    if exists is None:
        return distance.mean()
    weight = exists[:, :frames].float()
    return (distance * weight).sum() / weight.sum().clamp_min(1.0)


def scale_penalty(latents: Tensor, mask: Tensor, base_dim: int) -> Tensor:
    """Squared logarithms of the latents' variances over `BASE_VARIANCE` and `OUTER_SHARE`.

    Args:
        latents: (batch, frames, dim).
        mask: (batch, frames) bool, True on real frames.
        base_dim: dimensions that the first codebooks describe.
    """
    weight = mask[..., None].float()
    count = weight.sum().clamp_min(1.0)
    mean = (latents * weight).sum((0, 1)) / count
    variance = ((latents - mean).square() * weight).sum((0, 1)) / count
    base, outer = variance[:base_dim].sum(), variance[base_dim:].sum()
    penalty = (base.clamp_min(1e-4) / (base_dim * BASE_VARIANCE)).log().square()
    if base_dim == latents.shape[-1]:
        return penalty
    share = (outer / base.detach().clamp_min(1e-4)).clamp_min(1e-5)
    return penalty + (share / OUTER_SHARE).log().square()


def letters_loss(logits: Tensor, frames: Tensor, letters: Tensor, lengths: Tensor) -> Tensor:
    """CTC of letters, in nats a letter.

    Args:
        logits: (batch, frames, letters).
        frames: (batch,) frames that exist, on the CPU.
        letters: (batch, letters) int.
        lengths: (batch,) letters of each text, on the CPU. Items without letters, or with more
            letters than frames, do not count.
    """
    used = (lengths > 0) & (lengths < frames)
    losses = F.ctc_loss(
        logits.float().log_softmax(-1).transpose(0, 1), letters, frames, lengths, BLANK,
        reduction="none", zero_infinity=True,
    )  # fmt: skip
    weight = (used / lengths.clamp_min(1)).to(logits.device, non_blocking=True)
    return (losses * weight).sum() / max(1, int(used.sum()))


class Reading:
    """A recogniser with its adapter: the parts of the loss that it computes.

    Args:
        teacher: the frozen recogniser.
        embedder: its adapter.
    """

    def __init__(self, teacher: WhisperTeacher, embedder: CodeEmbedder):
        self.teacher, self.embedder = teacher, embedder

    def parts(
        self,
        quantized: Tensor,
        mask: Tensor,
        depths: Tensor,
        levels: Tensor,
        power: Tensor,
        wanted: Wanted,
        closed: bool,
    ) -> dict[str, Tensor]:
        """Distances to what the recogniser makes of the target.

        Args:
            quantized: (batch, frames, latent_dim).
            mask: (batch, frames) bool, True on real frames.
            depths: (batch, frames) int, codebooks that describe each frame.
            levels: (batch,) int, codebooks that the item's frames are described with at most.
            power: (batch, 4 x frames, 80) mel power of the target.
            wanted: tokens.
            closed: read without padding, with closing frames; then there is an `end` too.
        """
        with torch.no_grad():
            stem = self.teacher.stem(power)
            target = self.teacher.layers(stem)
        exists = real = None
        if closed:
            embeddings, exists = self.embedder.close_latents(
                quantized, mask, depths, mask.sum(1), levels
            )
            real = mask.repeat_interleave(2, dim=1)
        else:
            embeddings = self.embedder.embed_latents(quantized, mask, depths)
        layers = self.teacher.layers(embeddings, exists)
        distances = [relative_distance(a, b, real) for a, b in zip(layers, target, strict=True)]
        parts = {
            "stem": relative_distance(embeddings, stem, real),
            "layers": torch.stack([*distances, distances[-1]]).mean(),
        }
        return parts | decoder_parts(self.teacher, layers[-1], target[-1], wanted, exists)


def decoder_parts(
    teacher: WhisperTeacher,
    states: Tensor,
    target: Tensor,
    wanted: Wanted,
    exists: Tensor | None = None,
) -> dict[str, Tensor]:
    """The decoder's predictions, teacher-forced on transcripts, in nats a token.

    "decoder": Kullback-Leibler divergence from its predictions on the target's states;
    "transcript": cross-entropy of the text; with `exists`, (batch, frames) bool of `states`, also
    "end": cross-entropy of the end, which the teacher does not find without padding.
    """
    with torch.no_grad():
        goal = teacher.predictions(target, wanted.tokens, wanted.positions).log_softmax(-1)
    found = teacher.predictions(states, wanted.tokens, wanted.positions, exists).log_softmax(-1)
    divergence = F.kl_div(found, goal, log_target=True, reduction="none").sum(-1)
    surprise = -found.gather(1, wanted.following[:, None])[:, 0]
    parts = {
        "decoder": _mean(divergence, wanted.word),
        "transcript": _mean(surprise, wanted.word),
    }
    return parts if exists is None else parts | {"end": _mean(surprise, wanted.end)}


def weights_of(config: LossConfig, autoencoder: bool) -> dict[str, float]:
    """Weight of each part in a stage."""
    weights: dict[str, float] = config.model_dump()
    factor = weights.pop("autoencoder_decoder")
    if autoencoder:
        weights["decoder"] *= factor
        weights["transcript"] *= factor
        weights["scale"] = weights["commitment"] = 0.0
    return weights


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum() / weight.sum().clamp_min(1.0)
