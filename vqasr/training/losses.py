"""The parts of the training loss."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vqasr.adapters.embedder import CodeEmbedder
from vqasr.adapters.original_whisper import OriginalWhisper
from vqasr.codec.mel import log_mel
from vqasr.codec.quantizer import QuantizerOutput
from vqasr.grid import HOPS_PER_FRAME
from vqasr.training.batches import Batch
from vqasr.training.config import RecogniserConfig, TrainConfig
from vqasr.training.recordings import to_device
from vqasr.training.teacher import WhisperTeacher
from vqasr.training.texts import BLANK, TokenTable, TokenTargets

# Variance of the latents: of a base dimension, and of all others together as a share of all base
# dimensions together. Without such targets the straight-through gradient makes them grow without
# end: quantization disturbs larger latents less (docs/lab-book.md, 2026-11-25).
BASE_VARIANCE = 1.0
OUTER_SHARE = 0.06


def reconstruction_error(mel: Tensor, power: Tensor, frame_mask: Tensor) -> Tensor:
    """Return the mean squared log-mel error as a fraction of the log-mel's variance.

    Args:
        mel: (batch, 4 x frames, 80) decoded.
        power: (batch, 4 x frames, 80) mel power of the target.
        frame_mask: (batch, frames) bool, True on real frames.
    """
    frames = min(power.shape[1], mel.shape[1])
    target, mel = log_mel(power[:, :frames]), mel[:, :frames].float()
    # Weights and not target[mask]: the gradient of boolean indexing runs on one core.
    weight = frame_mask.repeat_interleave(HOPS_PER_FRAME, 1)[:, :frames, None].float()
    count = (weight.sum() * target.shape[2]).clamp_min(1.0)
    mean = (target * weight).sum() / count
    variance = ((target - mean).square() * weight).sum() / count
    return ((mel - target).square() * weight).sum() / count / variance.clamp_min(1e-4)


def relative_distance(student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the mean squared distance relative to each channel's variance.

    A few of Whisper's channels carry most of the variance; half of the mean variance is added to
    half of each channel's own, so that small channels count too, but are not amplified much.

    Args:
        student, teacher: (batch, frames, channels).
        mask: (batch, frames) bool, the frames that count; None for all.
    """
    frames = min(student.shape[1], teacher.shape[1])
    student, teacher = student[:, :frames].float(), teacher[:, :frames].float()
    variance = teacher.flatten(0, 1).var(0)
    distance = ((student - teacher).square() / (0.5 * variance + 0.5 * variance.mean())).mean(-1)
    return distance.mean() if mask is None else _mean(distance, mask[:, :frames].float())


def scale_penalty(latents: Tensor, mask: Tensor, base_dim: int) -> Tensor:
    """Return the squared logarithms of the variances over `BASE_VARIANCE` and `OUTER_SHARE`.

    Args:
        latents: (batch, frames, dim).
        mask: (batch, frames) bool, True on real frames.
        base_dim: dimensions that the first codebooks quantize.
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
    """Return the CTC loss of letters, in nats a letter.

    Items without letters, or with more letters than frames, do not count.

    Args:
        logits: (batch, frames, letters).
        frames: (batch,) real frames, on the CPU.
        letters: (batch, letters) int.
        lengths: (batch,) letters of each text, on the CPU.
    """
    used = (lengths > 0) & (lengths < frames)
    losses = F.ctc_loss(
        logits.float().log_softmax(-1).transpose(0, 1), letters, frames, lengths, BLANK,
        reduction="none", zero_infinity=True,
    )  # fmt: skip
    weight = (used / lengths.clamp_min(1)).to(logits.device, non_blocking=True)
    return (losses * weight).sum() / max(1, int(used.sum()))


class RecogniserLoss:
    """A frozen recogniser with its adapter, and the parts of the loss that they compute."""

    def __init__(
        self, config: RecogniserConfig, whisper: OriginalWhisper, embedder: CodeEmbedder,
        device: torch.device,
    ):  # fmt: skip
        self.config, self.whisper, self.embedder = config, whisper, embedder
        self.teacher = WhisperTeacher(whisper.model, device)

    def __call__(
        self,
        batch: Batch,
        table: TokenTable,
        coded: QuantizerOutput,
        mask: Tensor,
        levels: Tensor,
        closed: bool,
        step: int,
    ) -> dict[str, Tensor]:
        """Compare states and predictions on codes with those on the target.

        Args:
            batch: utterances; the share that is used moves on with each step.
            table: tokens of their transcripts.
            coded: their codes.
            mask: (batch, frames) bool, True on real frames.
            levels: (batch,) int, codebooks that each item may use.
            closed: read without padding, with closing frames; adds the part `end`.
            step: number of the batch.
        """
        count = len(batch.rows)
        chosen = (np.arange(max(1, round(self.config.share * count))) + step * count // 2) % count
        items = to_device(chosen, mask.device)
        mask, levels = mask[items], levels[items]
        lost = batch.lost[items] & mask & (levels > 0)[:, None]
        missing = self.embedder.missing_frame
        quantized = torch.where(lost[..., None], missing, coded.quantized[items])
        depths = torch.where(mask & ~lost, coded.depths[items], levels[:, None])
        with torch.no_grad():
            stem = self.teacher.stem(batch.power[items])
            target = self.teacher.layers(stem)
        exists = real = None
        closed = closed and self.embedder.config.num_closing_frames > 0
        if closed:
            embeddings, exists = self.embedder.close_latents(
                quantized, mask, depths, mask.sum(1), levels
            )
            real = mask.repeat_interleave(2, dim=1)
        else:
            embeddings = self.embedder.embed_latents(quantized, mask, depths)
        layers = self.teacher.layers(embeddings, exists)
        distances = [relative_distance(a, b, real) for a, b in zip(layers, target, strict=True)]
        targets = table(batch.rows[chosen], batch.full_stop[chosen], closed)
        return {
            "stem": relative_distance(embeddings, stem, real),
            "layers": torch.stack([*distances, distances[-1]]).mean(),
            **decoder_losses(self.teacher, layers[-1], target[-1], targets, exists),
        }


def divergence(predicted: Tensor, reference: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence (positions,) from the reference, in nats.

    Args:
        predicted, reference: (positions, vocabulary) logits.
    """
    own, wanted = predicted.log_softmax(-1), reference.log_softmax(-1)
    return F.kl_div(own, wanted, log_target=True, reduction="none").sum(-1)


def decoder_losses(
    teacher: WhisperTeacher,
    states: Tensor,
    target: Tensor,
    targets: TokenTargets,
    exists: Tensor | None = None,
) -> dict[str, Tensor]:
    """Compute the losses of the decoder's predictions on transcripts, in nats a token.

    Args:
        teacher: the recogniser.
        states, target: (batch, frames, d_model) encoder states on codes and on the target audio.
        targets: tokens of the transcripts.
        exists: (batch, frames) bool, the `states` that are attended to; adds the part "end".

    Returns:
        "decoder": Kullback-Leibler divergence from the predictions on `target`; "transcript":
        cross-entropy of the text; "end": cross-entropy of its end, which the teacher cannot teach
        because it does not find the end without padding.
    """
    with torch.no_grad():
        reference = teacher.predictions(target, targets.tokens, targets.positions)
    predicted = teacher.predictions(states, targets.tokens, targets.positions, exists)
    surprise = F.cross_entropy(predicted, targets.labels, reduction="none")
    parts = {
        "decoder": _mean(divergence(predicted, reference), targets.text_weight),
        "transcript": _mean(surprise, targets.text_weight),
    }
    return parts if exists is None else parts | {"end": _mean(surprise, targets.end_weight)}


def loss_weights(config: TrainConfig, autoencoder: bool) -> dict[str, float]:
    """Return the weights of the parts of the loss in a stage; other parts are only logged."""
    common: dict[str, float] = config.loss.model_dump()
    factor = common.pop("autoencoder_decoder")
    if autoencoder:
        common["decoder"] *= factor
        common["transcript"] *= factor
        common["scale"] = common["commitment"] = 0.0
    weights = dict(common)
    for entry in config.recognisers:
        weights |= {f"{entry.short_name}:{k}": entry.weight * w for k, w in common.items()}
    return weights


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum() / weight.sum().clamp_min(1.0)
