"""Closing frames: the recogniser learns where speech ends without 30 s of padding.

Whisper was trained on windows of 30 s, and without the silence behind the speech it goes on and on
(its words are right, it only does not stop). Two seconds of learned frames stand for that silence:
they alone are trained, so that nothing else changes.
"""

from collections.abc import Iterable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from vqasr.adapters.code_embedder import CodeEmbedder
from vqasr.adapters.whisper import CodesWhisper, to_features
from vqasr.modeling_vqcodec import VQCodecModel
from vqasr.stream_content import NO_FRAME
from vqasr.training.batches import Batch
from vqasr.training.config import LossConfig, StageConfig
from vqasr.training.losses import (
    Losses,
    coded_and_wanted,
    decoder_parts,
    layer_distance,
    relative_distance,
    weighted_sum,
)
from vqasr.training.precision import autocast
from vqasr.training.step_loop import finite, learning_rate
from vqasr.training.teacher import WhisperTeacher

CLOSING_FRAMES = 50
# Against the end's own cross-entropy: the words before it are not to change.
TRANSCRIPT_WEIGHT = 0.3
LEVELS = (1, 2, 4)
MOST_SILENCE_SAMPLES = 16_000


def fit_closing_frames(
    codec: VQCodecModel,
    embedder: CodeEmbedder,
    teacher: WhisperTeacher,
    batches: Iterable[Batch],
    stage: StageConfig,
    seed: int,
) -> dict[str, float]:
    """Train `embedder.closing_frames` and nothing else.

    Returns:
        Mean cross-entropy (nats) of the end and of the transcripts, over the last fifth of the
        steps.
    """
    embedder.add_closing_frames(CLOSING_FRAMES)
    frames = embedder.closing_frames
    assert frames is not None  # for the type checker; they have just been added
    codec.eval().requires_grad_(False), embedder.eval().requires_grad_(False)
    frames.requires_grad_(True)
    model = CodesWhisper(teacher.whisper, embedder, padded=False)
    optimizer = torch.optim.Adam([frames], lr=stage.learning_rate)
    generator = torch.Generator().manual_seed(seed)
    ends, words = [], []
    for step, batch in zip(range(stage.steps), _with_text(batches), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(stage, step)
        n = min(LEVELS[int(torch.randint(len(LEVELS), (1,), generator=generator))],
                codec.config.num_quantizers)  # fmt: skip
        codes = _codes(codec, _going_on(batch, generator), n)
        tokens, mask = teacher.tokens([_written(t) for t in batch.texts], frames.device, end=True)
        with autocast(frames.device):
            logits = model(
                input_features=to_features(codes), decoder_input_ids=tokens[:, :-1]
            ).logits
        said = F.cross_entropy(logits.float().transpose(1, 2), tokens[:, 1:], reduction="none")
        last = mask & (mask.sum(1, keepdim=True) == mask.cumsum(1))
        end = said[last[:, :-1]].mean()
        word = said[(mask & ~last)[:, :-1]].mean()
        loss = end + TRANSCRIPT_WEIGHT * word
        finite(float(loss.detach()), "the loss of the closing frames", step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ends.append(float(end.detach()))
        words.append(float(word.detach()))
    codec.requires_grad_(True), embedder.requires_grad_(True)
    recent = max(1, stage.steps // 5)
    return {
        "end": round(sum(ends[-recent:]) / recent, 4),
        "transcript": round(sum(words[-recent:]) / recent, 4),
    }


def closed_losses(
    codec: VQCodecModel,
    embedder: CodeEmbedder,
    teacher: WhisperTeacher,
    batch: Batch,
    levels: Tensor,
    weights: LossConfig,
    generator: torch.Generator,
    refined: Tensor | None = None,
) -> Losses:
    """The joint stage's losses of an adapter that reads without padding, and that of the end.

    Args:
        levels: (batch,) codebooks that each item may use, 0 for unquantized.
        generator: decides which recordings go on after the speech.
        refined: (batch,) see `Quantizer.forward`.
    """
    batch = _going_on(batch, generator)
    mask, output, stem, wanted = coded_and_wanted(codec, teacher, batch, levels, refined)
    depths = torch.where(mask, output.depths, levels[:, None])
    embeddings, exists = embedder.close_latents(output.quantized, mask, depths, mask.sum(1), levels)
    heard = teacher.layers(embeddings, exists)
    real = mask.repeat_interleave(2, dim=1)
    parts = {
        "stem": relative_distance(embeddings, stem, real),
        "layers": layer_distance(heard, wanted, real),
        **decoder_parts(
            teacher, heard[-1], wanted[-1], [_written(t) if t else "" for t in batch.texts], exists
        ),
    }
    return weighted_sum(parts, weights)


def _with_text(batches: Iterable[Batch]) -> Iterable[Batch]:
    """The items whose transcript is known."""
    for batch in batches:
        keep = [i for i, text in enumerate(batch.texts) if text]
        if keep:
            texts = [batch.texts[i] for i in keep]
            yield Batch(batch.clean[keep], batch.heard[keep], batch.lengths[keep], texts)


def _going_on(batch: Batch, generator: torch.Generator) -> Batch:
    """Half of the recordings go on for up to a second after the speech."""
    more = torch.randint(MOST_SILENCE_SAMPLES, (2, len(batch.texts)), generator=generator)
    more = torch.where(more[0] % 2 == 0, more[1], 0).to(batch.lengths.device)
    lengths = (batch.lengths + more).clamp_max(batch.heard.shape[1])
    return replace(batch, lengths=lengths)


@torch.no_grad()
def _codes(codec: VQCodecModel, batch: Batch, n: int) -> Tensor:
    """Codes (batch, n, frames), -1 behind each item's end."""
    latents, exists = codec.encode_latents(batch.heard, batch.sample_mask)
    codes = codec.quantizer.encode(latents, n)
    return codes.masked_fill(~exists[:, None], NO_FRAME)


def _written(text: str) -> str:
    """As Whisper would write a transcript without punctuation: it ends only after a full stop."""
    text = text.strip()
    text = text.capitalize() if text.isupper() else text
    return text if text[-1:] in ".?!" else f"{text}."
