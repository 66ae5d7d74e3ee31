"""Fit the adapter's speech head: is anybody speaking in this frame?

Whisper writes "you" or "Thank you" into silence and noise. So windows without speech are not given
to it at all, and the codes themselves say which those are: logistic regression on the adapter's
features, when everything else is trained and frozen.
"""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from torch import Tensor

from vqasr.adapters.embedder import CodeEmbedder
from vqasr.codec.mel import clip_log_mel
from vqasr.codec.modeling import VQCodecModel
from vqasr.data.speech import row_audio
from vqasr.training.augment import is_held_out
from vqasr.training.batches import Batches

# Frames of an utterance this far under its loud ones (95th percentile) are pauses.
PAUSE_DB = 30.0
SPEECH_PIECES = 120
NEWTON_STEPS = 60


@torch.no_grad()
def fit_speech_head(
    codec: VQCodecModel,
    embedder: CodeEmbedder,
    batches: Batches,
    noise: Dataset | None,
    seed: int,
) -> dict[str, float]:
    """Fit `embedder.speech_head` in place.

    Args:
        codec, embedder: trained, on the CPU; nothing but the head changes.
        batches: of speech, one piece of each of the first `SPEECH_PIECES`; labels come from the
            loudness of the target, features from what the encoder hears.
        noise: sounds without speech; every fifth is left out. None: silence alone.
        seed: of the number of codebooks that each clip is read with.

    Returns:
        Accuracy on speech, on pauses and on noise, in the data that it was fitted to.
    """
    codec.eval(), embedder.eval()
    generator = torch.Generator().manual_seed(seed)
    features: list[Tensor] = []
    labels: list[Tensor] = []
    kinds: list[Tensor] = []

    def add(samples: Tensor, mask: Tensor, speech: Tensor, is_noise: bool) -> None:
        hidden, frame_mask = _features(codec, embedder, samples, mask, generator)
        speech = speech[:, : frame_mask.shape[1]] & frame_mask
        features.append(hidden[frame_mask])
        labels.append(speech[frame_mask].float())
        kinds.append(torch.full((len(features[-1]),), is_noise))

    for step in range(SPEECH_PIECES):
        piece = next(batches.pieces(step))
        clean, heard = piece.clean.cpu(), (piece.heard * piece.sample_mask()).cpu()
        add(heard, piece.sample_mask().cpu(), speech_frames(clean, piece.lengths), False)
    for samples in _noises(noise):
        clip = torch.from_numpy(samples)[None]
        nobody = torch.zeros(1, 10**6, dtype=torch.bool)
        add(clip, torch.ones_like(clip, dtype=torch.bool), nobody, True)
    x, y, is_noise = torch.cat(features), torch.cat(labels), torch.cat(kinds)
    _fit_logistic(embedder, x, y)
    right = (embedder.speech_head(x)[:, 0] > 0) == (y > 0.5)
    return {
        "speech": round(float(right[y > 0.5].float().mean()), 4),
        "pauses": round(float(right[(y < 0.5) & ~is_noise].float().mean()), 4),
        "noise": round(float(right[is_noise].float().mean()), 4),
    }


def speech_frames(clean: Tensor, lengths: Tensor) -> Tensor:
    """Labels from loudness: (batch, samples), (batch,) -> (batch, code frames) bool."""
    mel = clip_log_mel(clean) * 4.0 - 4.0
    frames = mel.shape[1] // 4
    loudness = 10.0 * mel[:, : 4 * frames].mean(2).reshape(len(clean), frames, 4).amax(2)
    labels = torch.zeros(loudness.shape, dtype=torch.bool)
    for row, values, length in zip(labels, loudness, lengths, strict=True):
        real = values[: int(length) // 640]
        if len(real):
            row[: len(real)] = real > torch.quantile(real, 0.95) - PAUSE_DB
    return labels


def _features(
    codec: VQCodecModel, embedder: CodeEmbedder, samples: Tensor, mask: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Features of clips, each batch read with a random number of codebooks (0: unquantized)."""
    latents, frame_mask = codec.encode_latents(samples, mask)
    n = int(torch.randint(codec.config.num_quantizers + 1, (1,), generator=generator))
    levels = torch.zeros(len(latents), 1, dtype=torch.long)
    if n:
        tolerance = 0.0
        if codec.config.variable_depth:
            left_over = latents - codec.quantizer.decode(codec.quantizer.encode(latents, 1))
            share = float(torch.rand(1, generator=generator))
            tolerance = float(torch.quantile(left_over.square().sum(-1)[frame_mask], share))
        codes = codec.quantizer.encode(latents, n, tolerance)
        latents, levels = codec.quantizer.decode(codes), codec.quantizer.depths(codes)
    return embedder.features(latents, frame_mask, levels), frame_mask


def _noises(noise: Dataset | None) -> Iterator[np.ndarray]:
    yield np.zeros(5 * 16_000, np.float32)
    for i, row in enumerate(noise or []):
        if row["kind"] != "rir" and not is_held_out(i):
            yield row_audio(row)


def _fit_logistic(embedder: CodeEmbedder, x: Tensor, y: Tensor) -> None:
    """Logistic regression with both classes weighted alike."""
    weight = torch.where(
        y > 0.5, 0.5 / y.mean().clamp_min(1e-6), 0.5 / (1 - y.mean()).clamp_min(1e-6)
    )
    head = embedder.speech_head
    with torch.enable_grad():
        optimizer = torch.optim.LBFGS(
            head.parameters(), max_iter=NEWTON_STEPS, line_search_fn="strong_wolfe"
        )

        def loss() -> Tensor:
            optimizer.zero_grad()
            value = F.binary_cross_entropy_with_logits(head(x)[:, 0], y, weight)
            value = value + 1e-5 * head.weight.square().sum()
            value.backward()
            return value

        optimizer.step(loss)
