"""Small training runs on the bundled clips."""

import copy
import io
import json
from pathlib import Path

import soundfile
from datasets import Dataset
from transformers import WhisperForConditionalGeneration

from vqasr.adapters.original_whisper import OriginalWhisper
from vqasr.assets import CLIPS

BEGINNING_S = 2.7  # a batch of two is half as long as one of whole clips

CONFIG = """
output_dir = "{out}"
start_from = "{start_from}"
frozen_codec = {frozen}
[data]
train = ["{folder}/speech.parquet"]
dev = ["{folder}/speech.parquet"]
noise = ["{folder}/noise.parquet"]
batch_s = 6.4
piece_s = 3.2
dev_utterances = 1
[schedule]
autoencoder_steps = {autoencoder}
joint_steps = {joint}
warmup_steps = 2
learning_rate = 5e-3
log_every = 3
save_every = 3
[prior]
steps = {prior}
priced_steps = 30
num_modelled = 2
width = 16
head_size = 16
dilations = [1, 2]
passes = 2
batch_chunks = 4
save_every = 50
[speech_head]
pieces = 4
machine_sounds = 7
[levels]
0 = 1
1 = 2
2 = 2
"""
SIZES = """
[codec]
variable_depth = true
num_quantizers = 2
codebook_size = 32
latent_dim = 8
hidden_size = 32
num_fine_layers = 1
num_layers = 1
decoder_hidden_size = 16
num_decoder_layers = 1
base_dim = 6
[adapter]
hidden_size = 32
num_layers = 1
num_closing_frames = 10
"""


def training_data(folder: Path, whole: bool = False) -> Path:
    """Write speech.parquet (clips, or their beginnings) and noise.parquet, a room among it."""
    rows = clip_rows(whole)
    Dataset.from_list(rows).to_parquet(folder / "speech.parquet")
    noise = [{"audio": rows[i]["audio"], "kind": "rir" if i == 0 else "noise"} for i in range(5)]
    Dataset.from_list(noise).to_parquet(folder / "noise.parquet")
    return folder


def clip_rows(whole: bool = False) -> list[dict]:
    """Return audio and text of the bundled clips, or of their beginnings."""
    rows = []
    for entry in json.loads((CLIPS / "clips.json").read_text()):
        if "long" in entry:
            continue
        data, text = (CLIPS / entry["file"]).read_bytes(), entry["text"]
        if not whole:
            words = text.split()
            text = " ".join(words[: round(BEGINNING_S / entry["seconds"] * len(words))])
            data = beginning(data)
        rows.append({"audio": {"bytes": data, "path": None}, "text": text})
    return rows


def beginning(data: bytes) -> bytes:
    """Return the first seconds of a recording as FLAC."""
    frames = round(16_000 * BEGINNING_S)
    samples, rate_hz = soundfile.read(io.BytesIO(data), frames=frames, dtype="int16")
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format="FLAC")
    return file.getvalue()


def small_whisper(base: OriginalWhisper, folder: Path) -> str:
    """Save a Whisper of another width with random weights; a step takes a fraction of the time."""
    config = copy.deepcopy(base.model.config)
    config.update(
        {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
         "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    )  # fmt: skip
    small = WhisperForConditionalGeneration(config)
    small.generation_config = copy.deepcopy(base.model.generation_config)
    small.generation_config.max_length = 12
    for part in (small, base.feature_extractor, base.tokenizer):
        part.save_pretrained(folder / "whisper-small")
    return str(folder / "whisper-small")


def write_config(
    folder: Path,
    out: str,
    start_from: str = "",
    frozen: bool = False,
    autoencoder: int = 3,
    joint: int = 6,
    prior: int = 120,
    recognisers: list[tuple[str, str]] | None = None,
) -> Path:
    """Write a configuration for `training_data` in this folder; OUT.toml and results in OUT.

    Without `recognisers`, that of `small_whisper` in this folder.
    """
    start_from = start_from or ("vqasr-base" if frozen else "")
    text = CONFIG.format(
        folder=folder, out=folder / out, start_from=start_from, frozen=str(frozen).lower(),
        autoencoder=autoencoder, joint=joint, prior=prior,
    )  # fmt: skip
    if not start_from:
        text += SIZES
    for name, adapter in recognisers or [(str(folder / "whisper-small"), "")]:
        text += f'[[recognisers]]\nname = "{name}"\nadapter = "{adapter}"\n'
    path = folder / f"{out}.toml"
    path.write_text(text)
    return path
