"""Transcripts of recordings without text, by the recogniser itself, made once."""

import hashlib
import json
import logging
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from vqasr.adapters.original_whisper import OriginalWhisper, is_loop
from vqasr.files import replace_file
from vqasr.grid import SAMPLING_RATE_HZ
from vqasr.training.recordings import Recordings

# Windows of 30 s that are decoded together, on a GPU and on a CPU.
GPU_BATCH, CPU_BATCH = 256, 16
MOST_TOKENS = 96
MIN_TOKENS = 2
FILE = "transcripts.json"

logger = logging.getLogger("vqasr.train")


def transcribe_missing(
    recordings: Recordings, recogniser: OriginalWhisper, device: torch.device, folder: Path
) -> dict[int, tuple[str, float]]:
    """Greedy transcripts of recordings that have no text and were not cropped.

    What loops, has hardly any tokens or does not end is left out.

    Args:
        recordings: on the device.
        recogniser: a Whisper; its model is moved to the device meanwhile.
        folder: the transcripts are kept there, and not made again for the same recordings.

    Returns:
        {number of the recording: (text, mean log-probability of its tokens in nats)}.
    """
    missing = [i for i, text in enumerate(recordings.texts) if not text]
    missing = [i for i in missing if not recordings.cropped[i]]
    digest = hashlib.sha256(recogniser.fingerprint() + recordings.lengths.tobytes())
    digest.update(np.array(missing).tobytes())
    path, key = folder / FILE, digest.hexdigest()[:12]
    if path.is_file() and (kept := json.loads(path.read_text()))["of"] == key:
        return {int(i): (text, score) for i, (text, score) in kept["transcripts"].items()}
    found: dict[int, tuple[str, float]] = {}
    size = GPU_BATCH if device.type == "cuda" else CPU_BATCH
    recogniser.model.to(device)
    starts = range(0, len(missing), size)
    for start in track(starts, "transcribing recordings without text", disable=not missing):
        rows = missing[start : start + size]
        clips = [recordings.samples(i) for i in rows]
        for i, result in zip(rows, _transcribe(recogniser, clips, device), strict=True):
            if result is not None:
                found[i] = result
    recogniser.model.to("cpu")
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(path, json.dumps({"of": key, "transcripts": found}, indent=1).encode())
    logger.info("%d of %d recordings without text were transcribed", len(found), len(missing))
    return found


@torch.inference_mode()
def _transcribe(
    recogniser: OriginalWhisper, clips: list[np.ndarray], device: torch.device
) -> list[tuple[str, float] | None]:
    """Text and mean log-probability of each clip, None where it is of no use."""
    features = recogniser.feature_extractor(
        clips, sampling_rate=SAMPLING_RATE_HZ, return_tensors="pt"
    ).input_features.to(device)
    out = recogniser.model.generate(
        features, num_beams=1, do_sample=False, max_new_tokens=MOST_TOKENS,
        return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    scores = recogniser.model.compute_transition_scores(
        out.sequences, out.scores, normalize_logits=True
    )
    end = recogniser.model.generation_config.eos_token_id
    results: list[tuple[str, float] | None] = []
    for tokens, row in zip(out.sequences[:, -scores.shape[1] :], scores, strict=True):
        ends = (tokens == end).nonzero()
        count = int(ends[0]) if len(ends) else 0
        text = recogniser.tokenizer.decode(tokens[:count]).strip()
        if count < MIN_TOKENS or is_loop(text):
            results.append(None)
            continue
        results.append((text, round(float(row[: count + 1].mean()), 4)))
    return results
