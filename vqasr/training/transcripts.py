"""Transcripts of recordings without text, made once by the recogniser itself."""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track

from vqasr.adapters.original_whisper import OriginalWhisper, is_loop
from vqasr.files import replace_file
from vqasr.grid import SAMPLING_RATE_HZ
from vqasr.training.recordings import Recordings

# Windows of 30 s that are decoded together, on a GPU and on a CPU.
GPU_BATCH, CPU_BATCH = 256, 16
MIN_TOKENS, MOST_TOKENS = 2, 96

logger = logging.getLogger("vqasr.train")


def transcribe_missing(
    recordings: Recordings, recogniser: OriginalWhisper, device: torch.device, folder: Path
) -> dict[int, tuple[str, float]]:
    """Transcribe recordings that have no text and were not cropped, by greedy decoding.

    Transcripts that loop, are nearly empty or do not end are left out. They are kept in the folder
    and not made again for the same recordings.

    Returns:
        {number of the recording: (text, mean log-probability of its tokens in nats)}.
    """
    missing = [i for i, t in enumerate(recordings.texts) if not t and not recordings.cropped[i]]
    digest = hashlib.sha256(recogniser.fingerprint() + recordings.lengths.tobytes())
    digest.update(np.array(missing).tobytes())
    path, key = folder / "transcripts.json", digest.hexdigest()[:12]
    if path.is_file() and (kept := json.loads(path.read_text()))["of"] == key:
        return {int(i): (text, score) for i, (text, score) in kept["transcripts"].items()}
    made: dict[int, tuple[str, float]] = {}
    size = GPU_BATCH if device.type == "cuda" else CPU_BATCH
    model: Any = recogniser.model  # transformers' types refuse what it can do
    model.to(device)
    starts = range(0, len(missing), size)
    for start in track(starts, "transcribing recordings without text", disable=not missing):
        made |= _transcribe(recogniser, recordings, missing[start : start + size], device)
    model.to("cpu")
    replace_file(path, json.dumps({"of": key, "transcripts": made}, indent=1).encode())
    if missing:
        logger.info("%d of %d recordings without text were transcribed", len(made), len(missing))
    return made


@torch.inference_mode()
def _transcribe(
    recogniser: OriginalWhisper, recordings: Recordings, rows: list[int], device: torch.device
) -> dict[int, tuple[str, float]]:
    features = recogniser.feature_extractor(
        [recordings.samples(i) for i in rows],
        sampling_rate=SAMPLING_RATE_HZ,
        return_tensors="pt",
        device=str(device),
    ).input_features.to(device)
    model: Any = recogniser.model
    out = model.generate(
        features, num_beams=1, do_sample=False, max_new_tokens=MOST_TOKENS,
        return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    scores = model.compute_transition_scores(out.sequences, out.scores, normalize_logits=True)
    end = model.generation_config.eos_token_id
    made = {}
    for i, tokens, row in zip(rows, out.sequences[:, -scores.shape[1] :], scores, strict=True):
        ends = (tokens == end).nonzero()
        count = int(ends[0]) if len(ends) else 0
        text = recogniser.tokenizer.decode(tokens[:count]).strip()
        if count >= MIN_TOKENS and not is_loop(text):
            made[i] = text, round(float(row[: count + 1].mean()), 4)
    return made
