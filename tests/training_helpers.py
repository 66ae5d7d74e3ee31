"""A training of two steps on one bundled clip, for tests that begin with what ships."""

import json
from pathlib import Path

from datasets import Dataset

from vqasr.assets import CLIPS

SHORT_RUN = """
[data]
train = ["{data}"]
dev = ["{data}"]
batch_s = 5.0
dev_utterances = 1
[autoencoder]
steps = 0
[quantizer]
steps = 0
[joint]
steps = 2
warmup_steps = 1
"""


def write_one_clip(folder: Path) -> Path:
    """speech.parquet with the first bundled clip and its text."""
    entry = json.loads((CLIPS / "clips.json").read_text())[0]
    row = {"audio": {"bytes": (CLIPS / entry["file"]).read_bytes()}, "text": entry["text"]}
    path = folder / "speech.parquet"
    Dataset.from_list([row]).to_parquet(path)
    return path
