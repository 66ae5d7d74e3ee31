"""Train a small CTC recogniser that reads codes, or its twin that reads log-mel.

python recipes/recognition/train_small.py recipes/recognition/ctc-small.toml
python recipes/recognition/train_small.py recipes/recognition/ctc-small.toml --input log-mel

With --start, layers and head (of codes, the embedder too) begin as those of a model of codes.
--synthetic adds recordings of synthetic_speech.py, which the last part of the training leaves out.
Recordings are decoded once, into the memory of the device; augmentation and encoding run there in
every step. The same command continues an interrupted run.
"""

import vqasr.codec  # noqa: F401 (before transformers, which imports torchaudio)

# isort: split
import argparse
import logging
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW
from train_ctc import HEAD_FACTOR, begin, make_base, make_embedder, make_optimizer
from transformers import Wav2Vec2ForCTC
from transformers.models.whisper.modeling_whisper import sinusoids

from vqasr.adapters.adapter import CodesAdapter
from vqasr.adapters.code_features import CodesFeatureExtractor
from vqasr.adapters.ctc import CoarseEncoder, VQWav2Vec2ForCTC
from vqasr.adapters.ctc_recogniser import CTCRecogniser
from vqasr.adapters.embedder import CodeEmbedder
from vqasr.codec.mel import POWER_FLOOR, log_mel
from vqasr.evaluation.error_rates import word_errors
from vqasr.files import replace_file
from vqasr.grid import HOP_LENGTH, HOPS_PER_FRAME, SAMPLING_RATE_HZ
from vqasr.training.batches import Batch
from vqasr.training.checkpoint import RunFolder, StepLog
from vqasr.training.config import config_hash, load_train_config
from vqasr.training.losses import letters_loss
from vqasr.training.precision import autocast
from vqasr.training.recordings import Recordings
from vqasr.training.texts import LetterTable
from vqasr.training.trainer import Trainer

GAPS, GAP_FRAMES = 3, 12  # the most gaps of an item and frames of a gap (arXiv 1904.08779)
DEV_LEVELS = (1, 2, 4)


class CodesReader(nn.Module):
    """Frozen codec and embedder: audio to embeddings, through codes."""

    def __init__(self, codec: Any, embedder: CodeEmbedder):
        super().__init__()
        self.embedder, self._codec = embedder, [codec]  # a list hides it from the checkpoint

    def forward(self, batch: Batch, levels: Tensor, gaps: Tensor) -> tuple[Tensor, Tensor]:
        """Return embeddings at 50 Hz and a mask of those that exist."""
        codec = self._codec[0]
        mask = batch.frame_mask(batch.audio_lengths)
        with torch.no_grad():
            latents = codec.encoder(batch.audio)[:, : mask.shape[1]].float()
            refined = batch.refined if self.training else None
            coded = codec.quantizer(latents, levels, mask, refined)
        gaps = gaps & mask
        latents = torch.where(gaps[..., None], self.embedder.missing_frame, coded.quantized)
        depths = torch.where(mask & ~gaps, coded.depths, levels[:, None])
        return self.embedder.close_latents(latents, mask, depths, mask.sum(1), levels)


class LogMelReader(nn.Module):
    """Whisper's own front end: log-mel to embeddings, by its trained convolutions."""

    def __init__(self, whisper: Any):
        super().__init__()
        self.conv1, self.conv2 = whisper.model.encoder.conv1, whisper.model.encoder.conv2
        self.requires_grad_(True)

    def forward(self, batch: Batch, levels: Tensor, gaps: Tensor) -> tuple[Tensor, Tensor]:
        """Return embeddings at 50 Hz and a mask of those that exist."""
        mask = batch.frame_mask(batch.audio_lengths)
        mel = log_mel(replace(batch, target=batch.audio).power, POWER_FLOOR)
        mel = torch.maximum(mel, mel.amax((1, 2), keepdim=True) - 2.0)  # eight decades
        shown = (mask & ~gaps).repeat_interleave(HOPS_PER_FRAME, dim=1)[:, : mel.shape[1], None]
        mel = torch.where(shown, mel, mel.amin((1, 2), keepdim=True))
        hidden = F.gelu(self.conv1(mel.transpose(1, 2)))
        hidden = F.gelu(self.conv2(hidden)).transpose(1, 2)
        return hidden, mask.repeat_interleave(2, dim=1)


class Recogniser(nn.Module):
    """A reader, Whisper's first layers with its positions, a second encoder or none, and a head."""

    def __init__(
        self, reader: nn.Module, base: Wav2Vec2ForCTC, coarse: CoarseEncoder | None = None
    ):
        super().__init__()
        self.reader, self.base, self.coarse = reader, base, coarse
        self.logits_per_frame = 2 if coarse is None else 1

    def forward(self, batch: Batch, levels: Tensor, gaps: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits at 50 Hz, or 25 after a second encoder, and a mask of those that exist."""
        hidden, exists = self.reader(batch, levels, gaps)
        hidden = hidden + sinusoids(hidden.shape[1], hidden.shape[2]).to(hidden)
        hidden = self.base.wav2vec2.encoder(hidden, attention_mask=exists).last_hidden_state
        if self.coarse is not None:
            exists = exists[:, ::2]
            hidden = self.coarse(hidden, exists)
        return self.base.lm_head(hidden), exists


class CTCTrainer:
    """Train a recogniser as configured, with CTC of letters or word pieces."""

    def __init__(self, arguments: argparse.Namespace):
        config = load_train_config(arguments.config)
        self.config = config
        config.output_dir = arguments.out or f"{config.output_dir}-{arguments.input}"
        self.folder = Path(config.output_dir)
        self.data = Trainer(config)
        self.mixed, self.synthetic_until = self.data.batches, arguments.synthetic_until
        if arguments.synthetic:
            synthetic = self.data.decoded(arguments.synthetic, "train")
            # Recordings of persons keep their numbers, by which their texts are found.
            self.data.train = joined(self.data.train, synthetic)
            self.mixed = self.data.batches_of(self.data.train)
            hours = synthetic.lengths.sum() / SAMPLING_RATE_HZ / 3600
            logging.info("%.2f h of them synthetic", hours)
        self.data.tokenise()
        self.tokenizer: Any = begin(self.folder, config.seed)
        entry = config.recognisers[0]
        codec = self.data.student.codec.eval().requires_grad_(False)
        self.codec_fingerprint = codec.fingerprint()
        started, coarse = None, None
        if arguments.start is not None:
            started = CTCRecogniser.from_pretrained(arguments.start)
            self._check(started, entry.name)
            self.tokenizer, coarse = started.tokenizer, started.model.coarse
            base = copy_base(started.model, arguments.dropout)
        else:
            sizes = arguments.layers, arguments.inner
            base = make_base(entry.name, *sizes, dropout=arguments.dropout)
        self.head_factor = HEAD_FACTOR if started is None else 1
        reader: nn.Module
        if arguments.input == "codes":
            if started is not None:
                embedder = started.model.embedder
                embedder.speech_head.reset_parameters()  # its features change
            else:
                adapter = CodesAdapter.from_pretrained(entry.adapter)
                embedder = make_embedder(adapter.embedder, base.config.hidden_size)
            embedder.speech_head.requires_grad_(False)  # fit_speech_head.py fits it afterwards
            reader = CodesReader(codec, embedder)
        else:
            reader = LogMelReader(self.data.recognisers[0].whisper.model)
        self.model = Recogniser(reader, base, coarse).to(self.data.device)
        self.labels = LetterTable(self.data.sure_texts, self.data.device, self._spell)
        self.device = self.data.device
        options = {k: v for k, v in sorted(vars(arguments).items()) if k not in ("config", "out")}
        run = f"{config_hash(config)} {options}"
        self.run_folder = RunFolder(self.folder, "ctc", run)

    def _check(self, started: CTCRecogniser, whisper_name: str) -> None:
        """Refuse a model of codes that this training cannot go on from."""
        config, own = started.model.config, self.codec_fingerprint.hex()
        width = self.data.recognisers[0].whisper.model.config.d_model
        found = {
            "codec": (config.codec_fingerprint, own),
            "model_type": (config.base["model_type"], "wav2vec2"),
            "sinusoids": (config.sinusoids, True),
            "hidden_size": (config.base["hidden_size"], width),
        }
        wrong = [f"{k} {a!r}, not {b!r}" for k, (a, b) in found.items() if a != b]
        if wrong:
            raise SystemExit(f"--start cannot be trained further with {whisper_name}: {wrong}")

    def _spell(self, text: str) -> list[int]:
        """Return the tokens of a text; none if it has digits."""
        known = re.search(r"\d", text) is None
        words = re.findall(r"[a-z']+", text.lower()) if known else []
        ids: list[int] = self.tokenizer(" ".join(words)).input_ids
        return ids

    def run(self) -> None:
        """Train the steps that are missing and write the model."""
        schedule, total = self.config.schedule, self.config.schedule.total_steps
        first = self.run_folder.first_step()
        optimizer = make_optimizer(self.model, schedule.learning_rate, self.head_factor)
        if first:
            self.run_folder.load(self.model, optimizer)
        with StepLog(self.run_folder, first, total, schedule.log_every, schedule.save_every) as log:
            for step in range(first, total):
                factors = self.head_factor, 1
                for group, factor in zip(optimizer.param_groups, factors, strict=True):
                    group["lr"] = factor * schedule.rate(step)
                mixed = step < self.synthetic_until * total
                losses, audio_s = self.update(optimizer, step, mixed)
                done = step + 1
                if log.add("ctc", step, losses, audio_s):
                    self.run_folder.save(done, self.model, optimizer, {})
                    self.write()
                if done % schedule.dev_every == 0 or done == total:
                    self.run_folder.log({"stage": "dev", "step": done, **self.evaluate()})

    def update(self, optimizer: AdamW, step: int, mixed: bool) -> tuple[dict[str, Tensor], float]:
        """Make one step, with synthetic speech if `mixed`; return the loss and seconds of audio."""
        torch.manual_seed(self.config.seed * 7_919 + step)
        self.model.train()
        optimizer.zero_grad()
        total, audio_s = torch.zeros((), device=self.device), 0.0
        for piece in (self.mixed if mixed else self.data.batches).pieces(step):
            with autocast(self.device):
                logits, _ = self.model(piece, piece.levels, draw_gaps(piece) | piece.lost)
            texts, lengths = self.labels(piece.rows)
            frames = self.model.logits_per_frame * -(-piece.audio_lengths // HOP_LENGTH)
            loss = piece.share * letters_loss(logits, frames, texts, lengths)
            loss.backward()
            total += loss.detach()
            audio_s += piece.audio.numel() / SAMPLING_RATE_HZ
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        optimizer.step()
        return {"nats_a_token": total}, audio_s

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Measure the WER on dev, by number of codebooks; greedy."""
        self.model.eval()
        recordings, measured = self.data.dev_batches.recordings, {}
        for n in DEV_LEVELS if isinstance(self.model.reader, CodesReader) else (0,):
            texts = [""] * len(recordings)
            for batch in self.data.dev_batches.one_pass([0], 192.0, augmented=False):
                levels = torch.full_like(batch.levels, n)
                none = torch.zeros_like(batch.lost)
                with autocast(self.device):
                    logits, exists = self.model(batch, levels, none)
                best = torch.where(exists, logits.argmax(-1), self.tokenizer.pad_token_id)
                for row, text in zip(batch.rows, self.tokenizer.batch_decode(best), strict=True):
                    texts[row] = text
            errors, words = word_errors(recordings.texts, texts)
            measured[f"wer_{n}"] = round(errors / words, 4)
        return measured

    def write(self) -> None:
        """Write the model as it ships (int8), with its tokenizer; of log-mel, half precision."""
        folder = self.folder / "final"
        folder.mkdir(parents=True, exist_ok=True)
        if not isinstance(self.model.reader, CodesReader):
            half = {k: v.half().cpu().contiguous() for k, v in self.model.state_dict().items()}
            replace_file(folder / "model.safetensors", safetensors.torch.save(half))
            return
        model = VQWav2Vec2ForCTC.from_base(
            self.model.base, self.model.reader.embedder,
            self.codec_fingerprint, sinusoids=True,
            coarse_layers=0 if self.model.coarse is None else len(self.model.coarse.encoder.layers),
        )  # fmt: skip
        model.coarse = self.model.coarse
        model.save_int8(folder)
        self.tokenizer.save_pretrained(folder)
        CodesFeatureExtractor().save_pretrained(folder)


def copy_base(model: VQWav2Vec2ForCTC, dropout: float) -> Wav2Vec2ForCTC:
    """Copy encoder and head of a model of codes, with dropout inside the feed-forwards."""
    config: Any = model.config.base_config()
    config.hidden_dropout, config.activation_dropout = 0.0, dropout
    base = Wav2Vec2ForCTC(config)
    if model.coarse is not None:
        base.wav2vec2.encoder.layer_norm = nn.Identity()
    base.wav2vec2.encoder.load_state_dict(model.encoder.state_dict())
    base.lm_head.load_state_dict(model.lm_head.state_dict())
    return base


def joined(first: Recordings, others: Recordings) -> Recordings:
    """Return some recordings and, with the numbers behind theirs, some others."""
    return Recordings(
        torch.cat([first.pcm, others.pcm]),
        np.concatenate([first.starts, others.starts + len(first.pcm)]),
        np.concatenate([first.lengths, others.lengths]),
        [*first.texts, *others.texts],
        np.concatenate([first.cropped, others.cropped]),
    )


def draw_gaps(batch: Batch) -> Tensor:
    """Draw (items, frames) bool, True in gaps."""
    items, frames = batch.lost.shape
    rng = np.random.default_rng(int(batch.lengths.sum()))
    start = rng.random((items, GAPS, 1)) * (batch.lengths.numpy()[:, None, None] / HOP_LENGTH)
    length = rng.integers(1, GAP_FRAMES + 1, (items, GAPS, 1))
    length = length * (rng.integers(0, GAPS + 1, (items, 1, 1)) > np.arange(GAPS)[:, None])
    place = np.arange(frames)
    inside = (place >= start) & (place < start + length)
    return torch.from_numpy(inside.any(1)).to(batch.lost.device, non_blocking=True)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("config", help="TOML with data, codec, adapter and schedule")
    parser.add_argument("--input", choices=["codes", "log-mel"], default="codes")
    parser.add_argument("--out", help="instead of the configuration's output_dir")
    parser.add_argument(
        "--start", help="model of codes to begin with, such as ctc-small; it keeps its sizes"
    )
    parser.add_argument("--layers", type=int, default=4, help="of the encoder")
    parser.add_argument("--inner", type=int, default=1152, help="width of the feed-forwards")
    parser.add_argument("--dropout", type=float, default=0.1, help="inside the feed-forwards")
    parser.add_argument("--synthetic", nargs="+", default=[], help="files of synthetic_speech.py")
    parser.add_argument(
        "--synthetic-until", type=float, default=0.65, help="fraction of the steps with them"
    )
    arguments = parser.parse_args()
    started = time.monotonic()
    trainer = CTCTrainer(arguments)
    logging.info("ready after %.0f s", time.monotonic() - started)
    trainer.run()


if __name__ == "__main__":
    main()
