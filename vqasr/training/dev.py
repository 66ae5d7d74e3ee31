"""Divergence of the recognisers' decoders on dev, by number of codebooks."""

from collections import defaultdict

import torch

from vqasr.training.batches import Batches
from vqasr.training.losses import RecogniserLoss, decoder_losses
from vqasr.training.precision import autocast
from vqasr.training.student import Student
from vqasr.training.texts import TokenTable

LEVELS = (0, 1, 2, 4, 8)


@torch.no_grad()
def divergences(
    student: Student, recognisers: list[RecogniserLoss], batches: Batches
) -> dict[str, dict[str, float]]:
    """Measure the decoders' divergence from their own predictions on the clean audio.

    Codes are the nearest ones, all frames have one depth, and there is no padding.

    Returns:
        For each recogniser {"n": divergence in nats a token with n codebooks (0: unquantized),
        "n end": cross-entropy of the end}.
    """
    student.eval()
    codec, device = student.codec, batches.device
    tables = [TokenTable(r.whisper, batches.recordings.texts, device) for r in recognisers]
    sums: dict[tuple[str, str], float] = defaultdict(float)
    weights: dict[tuple[str, str], float] = defaultdict(float)
    for batch in batches.one_pass([0], batches.piece_s, augmented=False):
        mask = batch.frame_mask(batch.lengths)
        with autocast(device):
            latents = codec.encoder(batch.audio)[:, : mask.shape[1]].float()
            for recogniser, table in zip(recognisers, tables, strict=True):
                teacher, name = recogniser.teacher, recogniser.config.short_name
                targets = table(batch.rows, batch.full_stop, with_end=True)
                target = teacher.layers(teacher.stem(batch.power))[-1]
                tokens = float(targets.text_weight.sum())
                for n in (n for n in LEVELS if n <= codec.config.num_quantizers):
                    levels = torch.full((len(latents),), n, device=device)
                    coded = codec.quantizer(latents, levels, mask)
                    depths = torch.where(mask, coded.depths, levels[:, None])
                    embeddings, exists = recogniser.embedder.close_latents(
                        coded.quantized, mask, depths, mask.sum(1), levels
                    )
                    states = teacher.layers(embeddings, exists)[-1]
                    parts = decoder_losses(teacher, states, target, targets, exists)
                    sums[name, f"{n}"] += float(parts["decoder"]) * tokens
                    sums[name, f"{n} end"] += float(parts["end"]) * len(batch.rows)
                    weights[name, f"{n}"] += tokens
                    weights[name, f"{n} end"] += len(batch.rows)
    student.train()
    measured: dict[str, dict[str, float]] = defaultdict(dict)
    for (name, key), total in sums.items():
        measured[name][key] = round(total / weights[name, key], 4)
    return measured
