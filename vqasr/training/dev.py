"""How far the recognisers' decoders diverge on dev, by number of codebooks."""

import torch

from vqasr.codec.mel import clip_mel_power
from vqasr.errors import TrainingError
from vqasr.training.batches import Batches
from vqasr.training.losses import Reading, decoder_parts
from vqasr.training.precision import autocast
from vqasr.training.recordings import Recordings
from vqasr.training.student import Student
from vqasr.training.texts import TokenTable

LEVELS = (0, 1, 2, 4, 8)


@torch.no_grad()
def divergences(
    student: Student,
    readings: dict[str, Reading],
    tables: dict[str, TokenTable],
    batches: Batches,
    batch_s: float,
) -> dict[str, dict[str, float]]:
    """Measure the decoders' divergence from their own predictions on the clean audio.

    Everything is read without padding, with the nearest codes and all frames of one depth.

    Args:
        student: codec and adapters.
        readings, tables: of each recogniser, the tokens of the dev data.
        batches: dev data with transcripts.
        batch_s: seconds of audio computed together.

    Returns:
        For each recogniser {"n": divergence in nats a token with n codebooks (0: unquantized),
        "n end": cross-entropy of the end}.
    """
    student.eval()
    codec = student.codec
    device = next(codec.parameters()).device
    counts = [n for n in LEVELS if n <= codec.config.num_quantizers]
    sums: dict[str, dict[str, float]] = {name: {} for name in readings}
    tokens: dict[str, float] = dict.fromkeys(readings, 0.0)
    items = 0
    for batch in batches.of_all([0], batch_s, changed=False):
        mask = batch.frame_mask(batch.lengths)
        items += len(batch.rows)
        with autocast(device):
            latents = codec.encoder(batch.heard)[:, : mask.shape[1]].float()
            power = clip_mel_power(batch.clean)
            for name, reading in readings.items():
                wanted = tables[name](batch.rows, batch.full_stop, with_end=True)
                target = reading.teacher.layers(reading.teacher.stem(power))[-1]
                words = float(wanted.word.sum())
                tokens[name] += words
                for n in counts:
                    levels = torch.full((len(latents),), n, device=device)
                    coded = codec.quantizer(latents, levels, mask)
                    depths = torch.where(mask, coded.depths, levels[:, None])
                    embeddings, exists = reading.embedder.close_latents(
                        coded.quantized, mask, depths, mask.sum(1), levels
                    )
                    states = reading.teacher.layers(embeddings, exists)[-1]
                    parts = decoder_parts(reading.teacher, states, target, wanted, exists)
                    found = sums[name]
                    for key, value, weight in (
                        (str(n), parts["decoder"], words),
                        (f"{n} end", parts["end"], len(batch.rows)),
                    ):
                        found[key] = found.get(key, 0.0) + float(value) * weight
    student.train()
    return {
        name: {
            key: round(value / max(1.0, items if "end" in key else tokens[name]), 4)
            for key, value in found.items()
        }
        for name, found in sums.items()
    }


def spread(recordings: Recordings, count: int) -> Recordings:
    """`count` recordings with transcripts, spread over all lengths; TrainingError if none has."""
    usable = [i for i, text in enumerate(recordings.texts) if text]
    if not usable:
        raise TrainingError("the dev data hold no transcripts to measure the training with.")
    ordered = sorted(usable, key=lambda i: recordings.lengths[i])
    return recordings.select(ordered[:: max(1, len(ordered) // count)][:count])
