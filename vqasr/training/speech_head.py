"""Fit the adapter's speech head, which tells frames with speech from those without.

Whisper writes "you" or "Thank you" for silence and noise, so windows without speech are not given
to it. Codes suffice to find them: logistic regression on the adapter's features, fitted when
everything else is trained and frozen.
"""

from collections.abc import Iterator
from itertools import chain

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from rich.progress import track
from torch import Tensor, nn

from vqasr.adapters.embedder import CodeEmbedder
from vqasr.codec.mel import clip_log_mel
from vqasr.codec.modeling import VQCodecModel
from vqasr.data.speech import row_audio
from vqasr.grid import HOP_LENGTH, HOPS_PER_FRAME, SAMPLING_RATE_HZ
from vqasr.training.augment import is_held_out
from vqasr.training.batches import Batches
from vqasr.training.config import SpeechHeadConfig

# Frames of an utterance this far below its loud ones (95th percentile) are pauses.
PAUSE_DB = 30.0
PIECE_S = 48.0
LBFGS_STEPS = 60
MACHINE_S = 3


@torch.no_grad()
def fit_speech_head(
    codec: VQCodecModel,
    embedder: CodeEmbedder,
    batches: Batches,
    noise: Dataset | None,
    config: SpeechHeadConfig,
    seed: int,
) -> dict[str, float]:
    """Fit `embedder.speech_head` in place, with codec and embedder trained and on the CPU.

    One piece of each of the first batches is used: labels come from the loudness of the target,
    features from the encoder's input. Noise and `machine_sounds` are labelled as no speech. The
    seed draws these, and the number of codebooks of each clip.

    Returns:
        Accuracy on speech, pauses and noise, in the data that it was fitted to.
    """
    codec.eval(), embedder.eval()
    generator = torch.Generator().manual_seed(seed)
    features, labels = [], []
    for step in track(range(config.pieces), "fitting the speech head"):
        piece = next(batches.pieces(step, PIECE_S))
        mask = piece.sample_mask()
        speech = speech_frames(piece.target.cpu(), piece.lengths)
        audio = (piece.audio * mask).cpu()
        hidden, frame_mask = _features(codec, embedder, audio, mask.cpu(), generator)
        features.append(hidden[frame_mask])
        labels.append(speech[:, : frame_mask.shape[1]][frame_mask].float())
    noises = (r for i, r in enumerate(noise or []) if r["kind"] != "rir" and not is_held_out(i))
    sounds = machine_sounds(np.random.default_rng(seed), config.machine_sounds)
    for samples in chain(sounds, map(row_audio, noises)):
        clip = torch.from_numpy(samples)[None]
        mask = torch.ones_like(clip, dtype=torch.bool)
        hidden, frame_mask = _features(codec, embedder, clip, mask, generator)
        features.append(hidden[frame_mask])
    x, y = torch.cat(features), torch.cat(labels)
    is_noise = torch.arange(len(x)) >= len(y)
    y = F.pad(y, (0, len(x) - len(y)))
    _fit_logistic(embedder.speech_head, x, y)
    right = (embedder.speech_head(x)[:, 0] > 0) == (y > 0.5)
    groups = {"speech": y > 0.5, "pauses": (y < 0.5) & ~is_noise, "noise": is_noise}
    return {name: round(float(right[rows].float().mean()), 4) for name, rows in groups.items()}


def machine_sounds(rng: np.random.Generator, count: int) -> Iterator[np.ndarray]:
    """Yield silence, and hum, tones, hiss and clicks of machines: (samples,) float32 each."""
    time_s = np.arange(MACHINE_S * SAMPLING_RATE_HZ) / SAMPLING_RATE_HZ
    yield np.zeros(len(time_s), np.float32)
    for number in range(count):
        hz = rng.uniform(80.0, 3000.0)
        kind = number % 7
        if kind == 0:  # mains hum, or a buzz
            base = rng.choice([50.0, 60.0, rng.uniform(40.0, 400.0)])
            harmonics = np.arange(1, rng.integers(2, 30))
            levels = rng.random(len(harmonics)) / harmonics ** rng.uniform(0.0, 2.0)
            wave = levels @ np.sin(2 * np.pi * base * harmonics[:, None] * time_s)
        elif kind == 1:  # one or two tones
            wave = np.sin(2 * np.pi * hz * time_s)
            wave += rng.integers(2) * np.sin(2 * np.pi * rng.uniform(80.0, 3000.0) * time_s)
        elif kind == 6:  # a tone as low as a voice
            wave = np.sin(2 * np.pi * rng.uniform(80.0, 800.0) * time_s)
        elif kind == 2:  # a sweep
            wave = np.sin(2 * np.pi * (hz + rng.uniform(-1.0, 1.0) * 600 * time_s) * time_s)
        elif kind == 3:  # hiss or rumble
            spectrum = rng.standard_normal(len(time_s) // 2 + 1) + 0j
            spectrum /= np.maximum(1.0, np.arange(len(spectrum))) ** rng.uniform(0.0, 1.2)
            wave = np.fft.irfft(spectrum, len(time_s))
        elif kind == 4:  # clicks
            wave = np.zeros(len(time_s))
            wave[:: int(SAMPLING_RATE_HZ / rng.uniform(1.0, 60.0))] = 1.0
        else:  # tones that go on and off
            wave = np.sin(2 * np.pi * hz * time_s)
            wave *= np.sin(2 * np.pi * rng.uniform(0.3, 5.0) * time_s) > rng.uniform(-0.8, 0.8)
        level = 10.0 ** (rng.uniform(-50.0, -3.0) / 20.0)
        offset = rng.choice([0.0, rng.uniform(-0.3, 0.3)])
        hiss = 10.0 ** rng.uniform(-5.0, -2.0) * rng.standard_normal(len(time_s))
        yield (level * wave / np.abs(wave).max() + offset + hiss).astype(np.float32)


def speech_frames(clean: Tensor, lengths: Tensor) -> Tensor:
    """Label frames by loudness: (batch, samples), (batch,) -> (batch, frames) bool."""
    mel = clip_log_mel(clean) * 4.0 - 4.0
    frames = mel.shape[1] // HOPS_PER_FRAME
    mel = mel[:, : HOPS_PER_FRAME * frames].mean(2)
    loudness = 10.0 * mel.reshape(len(clean), frames, HOPS_PER_FRAME).amax(2)
    labels = torch.zeros(loudness.shape, dtype=torch.bool)
    for row, values, length in zip(labels, loudness, lengths, strict=True):
        real = values[: int(length) // HOP_LENGTH]
        if len(real):
            row[: len(real)] = real > torch.quantile(real, 0.95) - PAUSE_DB
    return labels


def _features(
    codec: VQCodecModel, embedder: CodeEmbedder, samples: Tensor, mask: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Features of clips, each batch with a random number of codebooks (0: unquantized)."""
    latents, frame_mask = codec.encode_latents(samples, mask)
    n = int(torch.randint(codec.config.num_quantizers + 1, (1,), generator=generator))
    levels = torch.zeros(len(latents), 1, dtype=torch.long)
    if n:
        tolerance = 0.0
        if codec.config.variable_depth:
            residual = latents - codec.quantizer.decode(codec.quantizer.encode(latents, 1))
            share = float(torch.rand(1, generator=generator))
            tolerance = float(torch.quantile(residual.square().sum(-1)[frame_mask], share))
        codes = codec.quantizer.encode(latents, n, tolerance)
        latents, levels = codec.quantizer.decode(codes), codec.quantizer.depths(codes)
    return embedder.features(latents, frame_mask, levels), frame_mask


@torch.enable_grad()
def _fit_logistic(head: nn.Linear, x: Tensor, y: Tensor) -> None:
    """Fit logistic regression with both classes weighted alike."""
    speech, other = y.mean().clamp_min(1e-6), (1 - y.mean()).clamp_min(1e-6)
    weight = torch.where(y > 0.5, 0.5 / speech, 0.5 / other)
    optimizer = torch.optim.LBFGS(
        head.parameters(), max_iter=LBFGS_STEPS, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.binary_cross_entropy_with_logits(head(x)[:, 0], y, weight)
        value = value + 1e-5 * head.weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
