"""One training, from random weights to everything that ships; resumable.

transformers' `Trainer` is not used: its checkpoints are pickles, it trains one model on batches of
a fixed number of items, and here each stage trains other parts on batches of a fixed duration.
"""

import copy
import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from vqasr.adapters.adapter import CodesAdapter
from vqasr.adapters.embedder import fill_undrawn_levels
from vqasr.adapters.original_whisper import OriginalWhisper, load_whisper
from vqasr.codec.feature_extraction import VQCodecFeatureExtractor
from vqasr.codec.mel import clip_mel_power
from vqasr.codec.quantizer import QuantizerOutput
from vqasr.data.speech import load_speech
from vqasr.errors import TrainingError
from vqasr.grid import SAMPLING_RATE_HZ
from vqasr.training.augment import Augment
from vqasr.training.batches import Batch, Batches
from vqasr.training.checkpoint import append_log, load_checkpoint, read_progress, save_checkpoint
from vqasr.training.config import TrainConfig, config_hash
from vqasr.training.dev import divergences, spread
from vqasr.training.losses import (
    Reading,
    letters_loss,
    reconstruction_error,
    scale_penalty,
    weights_of,
)
from vqasr.training.optimizer import MuonAndAdamW, adamw, finite
from vqasr.training.precision import autocast
from vqasr.training.prices import price_points
from vqasr.training.prior_trainer import PriorTrainer
from vqasr.training.recordings import Recordings
from vqasr.training.rotation import rotate_latents
from vqasr.training.speech_head import fit_speech_head
from vqasr.training.student import Student, adapter_name
from vqasr.training.teacher import WhisperTeacher
from vqasr.training.texts import LetterTable, TokenTable
from vqasr.training.transcripts import transcribe_missing

# k-means sees this many latents per code; more changes little.
KMEANS_FRAMES_PER_CODE = 100
CPU_PIECE_S = 48.0
# Moving averages of the codebooks: while they settle, afterwards, and towards the end.
DECAYS = (0.9, 0.97, 0.99)
LAST_DECAY_FROM = 0.6
FINAL_LEARNING_RATE = 0.01
# Parts of the loss beside the progress bar.
SHOWN = (":layers", ":decoder", ":end")
# Utterances of dev on which rates are measured.
RATE_CLIPS = 100

logger = logging.getLogger("vqasr.train")


class Trainer:
    """Trains codec, adapters, speech heads and prior as one TOML file says.

    Args:
        config: everything the run depends on.

    Raises:
        TrainingError: the configuration cannot be used.
    """

    def __init__(self, config: TrainConfig):
        self.config = config
        self.folder = Path(config.output_dir)
        if config.threads:
            torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.recognisers = _load_recognisers(config)
        self.student = Student(config, self.recognisers).to(self.device)
        self.readings = {
            name: Reading(WhisperTeacher(self.recognisers[name].model, self.device), embedder)
            for name, embedder in self.student.adapters().items()
        }
        self._load_data()
        self.folder.mkdir(parents=True, exist_ok=True)

    def _load_data(self) -> None:
        data, device = self.config.data, self.device
        rows = load_speech(data.train, data.train_split)
        self.train = Recordings.of_rows(rows, device, data.max_utterance_s, data.text_column)
        self.noise = load_speech(data.noise, "train") if data.noise else None
        augment = Augment(self.config.augment, self.noise, device)
        dev_rows = load_speech(data.dev, data.dev_split)
        self.dev = Recordings.of_rows(dev_rows, device, data.max_utterance_s, data.text_column)
        judged = spread(self.dev, data.dev_utterances)
        whole = data.batch_s if device.type == "cuda" else min(CPU_PIECE_S, data.batch_s)
        self.piece_s = data.piece_s or whole
        self.batches = Batches(self.train, augment, self.config, self.piece_s)
        self.judged_batches = Batches(judged, augment, self.config, self.piece_s)
        self.judged_tables = {
            name: TokenTable(recogniser, judged.texts, device)
            for name, recogniser in self.recognisers.items()
        }
        hours = self.train.seconds / 3600
        logger.info("%.2f h of speech in %d recordings, on %s", hours, len(self.train), device)

    def run(self) -> None:
        """Train what is still missing; an interrupted run goes on where it was saved.

        Raises:
            TrainingError: the folder holds a run of another configuration, or a loss is not finite.
        """
        name = config_hash(self.config)
        progress = read_progress(self.folder)
        if progress is not None and progress["config"] != name:
            raise TrainingError(
                f"{self.folder} holds a run of another configuration. Name another output_dir, or "
                "delete the folder to start over."
            )
        self._tokenise()
        self._train_steps(progress["step"] if progress else 0)
        self.student.to("cpu").eval()  # codes are defined by the CPU's float32
        self.student.copy_codebooks()
        self._finish_adapters()
        if not self.config.frozen_codec:
            self._finish_codec()

    def _tokenise(self) -> None:
        """Prepare tokens and letters of all transcripts; the recogniser makes those missing."""
        texts, unsure = list(self.train.texts), set()
        data = self.config.data
        if data.transcribe:
            first = next(iter(self.recognisers.values()))
            made = transcribe_missing(self.train, first, self.device, self.folder)
            for i, (text, score) in made.items():
                if score >= data.min_log_probability:
                    texts[i] = text
                    if score < data.sure_log_probability:
                        unsure.add(i)
        self.tables = {
            name: TokenTable(recogniser, texts, self.device)
            for name, recogniser in self.recognisers.items()
        }
        self.letters = LetterTable(
            ["" if i in unsure else text for i, text in enumerate(texts)], self.device
        )

    def _train_steps(self, first: int) -> None:
        """The gradient stages, from step `first` on."""
        schedule = self.config.schedule
        total = schedule.autoencoder_steps + schedule.joint_steps
        optimizer = self._optimizer()
        if first:
            extra = load_checkpoint(self.folder, self._modules(), optimizer)
            self.student.codec.quantizer.load_training_state(extra)
        if first >= total:
            return
        if not first and self.config.start_from:
            self.judge(0)
        sums: dict[str, Tensor] = {}
        counts: dict[str, int] = {}
        started, audio_s = time.monotonic(), 0.0
        columns = (
            TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(),
            TimeRemainingColumn(), TextColumn("{task.fields[loss]}"),
        )  # fmt: skip
        with Progress(*columns) as bar:
            task = bar.add_task("train", total=total, completed=first, loss="")
            for step in range(first, total):
                if step == schedule.autoencoder_steps and not self.config.start_from:
                    self.fit_codebooks()
                parts, seconds = self.update(optimizer, step)
                audio_s += seconds
                for key, value in parts.items():
                    sums[key] = sums.get(key, 0.0) + value
                    counts[key] = counts.get(key, 0) + 1
                done = step + 1
                bar.update(task, completed=done)
                if done % schedule.log_every == 0 or done == total:
                    means = _means(sums, counts, step)
                    elapsed_s = time.monotonic() - started
                    self.log(
                        {"stage": self._stage(step), "step": done, "elapsed_s": round(elapsed_s, 1),
                         "audio_s_per_s": round(audio_s / elapsed_s, 1), **means}
                    )  # fmt: skip
                    shown = [f"{k} {v:.3f}" for k, v in means.items() if k.endswith(SHOWN)]
                    bar.update(task, loss=" ".join(shown))
                    sums, counts = {}, {}
                    if done % schedule.save_every == 0 or done == total:
                        self.save(done, optimizer)
                if done % schedule.dev_every == 0 or done == total:
                    self.judge(done)

    def _stage(self, step: int) -> str:
        return "autoencoder" if step < self.config.schedule.autoencoder_steps else "joint"

    def _optimizer(self) -> torch.optim.Optimizer | MuonAndAdamW:
        student = self.student
        if self.config.frozen_codec:
            student.codec.requires_grad_(False)
            student.ctc_head.requires_grad_(False)
        parameters = [p for p in student.parameters() if p.requires_grad]
        kind = MuonAndAdamW if self.config.optimizer == "muon" else adamw
        return kind(parameters, self.config.schedule.learning_rate)

    def update(
        self, optimizer: torch.optim.Optimizer | MuonAndAdamW, step: int
    ) -> tuple[dict[str, Tensor], float]:
        """One step: gradients of all pieces of its batch, then the optimizer and the codebooks.

        Returns:
            the parts of the loss, and seconds of audio.
        """
        # Dead codes are revived at random frames: the draw must not depend on a resume.
        torch.manual_seed(self.config.seed * 7_919 + step)
        student = self.student
        student.train()
        rate = learning_rate(self.config, step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        weights = weights_of(self.config.loss, self._stage(step) == "autoencoder")
        means: dict[str, Tensor] = {}
        seconds = 0.0
        for piece in self.batches.pieces(step):
            with autocast(self.device):
                parts = self.losses(piece, step)
            terms = [self._weight(name, weights) * part for name, part in parts.items()]
            (piece.share * torch.stack(terms).sum()).backward()
            for name, part in parts.items():
                means[name] = piece.share * part.detach() + means.get(name, 0.0)
            seconds += piece.heard.numel() / SAMPLING_RATE_HZ
        learned = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        if self._stage(step) == "joint" and not self.config.frozen_codec:
            student.codec.quantizer.update_codebooks(self._decay(step))
        return means, seconds

    def _decay(self, step: int) -> float:
        schedule = self.config.schedule
        total = schedule.autoencoder_steps + schedule.joint_steps
        if not self.config.start_from and step < schedule.autoencoder_steps + schedule.settle_steps:
            return DECAYS[0]
        return DECAYS[1] if step < LAST_DECAY_FROM * total else DECAYS[2]

    def _weight(self, name: str, weights: dict[str, float]) -> float:
        """Weight of a part of the loss; 0 for what is only logged."""
        recogniser, _, kind = name.rpartition(":")
        factors = {adapter_name(about.name): about.weight for about in self.config.recognisers}
        return factors.get(recogniser, 1.0) * weights.get(kind, 0.0)

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """All parts of the loss of a piece of a batch; those of a recogniser are "NAME:part".

        Odd steps of the joint stage read without padding, with closing frames; even ones and the
        autoencoder stage with silence behind the utterances.
        """
        codec = self.student.codec
        autoencoder = self._stage(step) == "autoencoder"
        closed = step % 2 == 1 and not autoencoder
        lengths = batch.heard_lengths if closed else batch.lengths
        mask = batch.frame_mask(lengths)
        heard = batch.heard if closed else batch.heard * batch.sample_mask()
        codec.quantizer.train(not autoencoder and not self.config.frozen_codec)
        latents, letters = self.student.encode(heard)
        levels = torch.zeros_like(batch.levels) if autoencoder else batch.levels
        refined = batch.refined if codec.config.variable_depth else None
        coded = codec.quantizer(latents, levels, mask, refined)
        power = clip_mel_power(batch.clean)
        parts: dict[str, Tensor] = {}
        if not self.config.frozen_codec:
            mel = codec.mel_decoder(coded.quantized)
            texts, text_lengths = self.letters(batch.rows)
            frames = -(-batch.lengths // codec.config.hop_length)
            base_dim = codec.config.base_dim or codec.config.latent_dim
            parts = {
                "reconstruction": reconstruction_error(mel, power, mask),
                "scale": scale_penalty(latents, mask, base_dim),
                "commitment": coded.commitment,
                "ctc": letters_loss(letters, frames, texts, text_lengths),
            }
            for i, perplexity in enumerate(coded.perplexity):
                parts[f"perplexity_{i}"] = perplexity
        read = self.config.recognisers[: 1 if autoencoder else None]  # others join with codebooks
        for about in read:
            name = adapter_name(about.name)
            found = self._read(name, about.share, batch, coded, mask, levels, power, closed, step)
            parts |= {f"{name}:{key}": value for key, value in found.items()}
        return parts

    def _read(
        self, name: str, share: float, batch: Batch, coded: QuantizerOutput, mask: Tensor,
        levels: Tensor, power: Tensor, closed: bool, step: int,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Parts of the loss of one recogniser, on its share of the items."""
        reading = self.readings[name]
        count = len(batch.rows)
        chosen = (np.arange(max(1, round(share * count))) + step * count // 2) % count
        items = torch.from_numpy(chosen).to(self.device, non_blocking=True)
        mask, levels = mask[items], levels[items]
        lost = batch.lost[items] & mask & (levels > 0)[:, None]
        quantized = torch.where(
            lost[..., None], reading.embedder.missing_frame, coded.quantized[items]
        )
        depths = torch.where(mask & ~lost, coded.depths[items], levels[:, None])
        closed = closed and reading.embedder.config.num_closing_frames > 0
        wanted = self.tables[name](batch.rows[chosen], batch.full_stop[chosen], closed)
        return reading.parts(quantized, mask, depths, levels, power[items], wanted, closed)

    @torch.no_grad()
    def fit_codebooks(self) -> None:
        """Rotate the latents into their base dimensions, and k-means on them."""
        codec = self.student.codec
        wanted = KMEANS_FRAMES_PER_CODE * codec.config.codebook_size
        latents: list[Tensor] = []
        step = 0
        while sum(map(len, latents)) < wanted:
            for piece in self.batches.pieces(step):
                with autocast(self.device):
                    found, _ = self.student.encode(piece.heard)
                latents.append(found[piece.frame_mask(piece.lengths)])
            step += 1
        rotated = rotate_latents(codec, self.student.adapters().values(), torch.cat(latents))
        codec.quantizer.fit(rotated, torch.Generator().manual_seed(self.config.seed))
        self.log({"stage": "codebooks", "frames": len(rotated)})

    def judge(self, step: int) -> None:
        """Measure the divergence on dev, in log.jsonl."""
        found = divergences(
            self.student, self.readings, self.judged_tables, self.judged_batches, self.piece_s
        )
        self.log({"stage": "dev", "step": step, **found})
        logger.info("step %d: %s", step, json.dumps(found))

    @torch.no_grad()
    def _finish_adapters(self) -> None:
        """Fit the speech heads on the trained codes and write the adapters."""
        codec = self.student.codec
        for about, (name, embedder) in zip(
            self.config.recognisers, self.student.adapters().items(), strict=True
        ):
            fill_undrawn_levels(embedder, list(self.config.levels))
            accuracy = fit_speech_head(codec, embedder, self.batches, self.noise, self.config.seed)
            self.log({"stage": "speech_head", "adapter": name, "accuracy": accuracy})
            folder = self.folder / f"adapter-{name}"
            fingerprint = self.recognisers[name].fingerprint()
            adapter = CodesAdapter(embedder, about.name, fingerprint, codec.fingerprint())
            adapter.save_pretrained(folder, int8=True)
            logger.info("the adapter is in %s", folder)

    def _finish_codec(self) -> None:
        """Write the codec; train its prior and measure the rates that it gives."""
        codec, folder = self.student.codec, self.folder / "codec"
        copy.deepcopy(codec).half().save_pretrained(folder)
        VQCodecFeatureExtractor().save_pretrained(folder)
        logger.info("the codec is in %s", folder)
        if not self.config.prior.steps:
            return
        prior = PriorTrainer(
            self.config.prior, codec, self.batches, self.dev, self.folder, self.config.seed
        ).run()
        prior.save_pretrained(self.folder / "prior")
        logger.info("the code prior is in %s", self.folder / "prior")
        if codec.config.variable_depth:
            some = self.dev.select(list(range(0, len(self.dev), 1 + len(self.dev) // RATE_CLIPS)))
            clips = [some.samples(i) for i in range(len(some))]
            points = price_points(codec, prior, prior.config.num_modelled, clips)
            codec.config.price_points = points
            codec.config.save_pretrained(folder)
            self.log({"stage": "rates", "points": points})

    def _modules(self) -> dict[str, nn.Module]:
        return {"student": self.student}

    def save(self, step: int, optimizer: torch.optim.Optimizer | MuonAndAdamW) -> None:
        """Write a checkpoint after `step` steps."""
        progress = {"step": step, "config": config_hash(self.config)}
        state = self.student.codec.quantizer.training_state()
        save_checkpoint(self.folder, self._modules(), state, optimizer, progress)

    def log(self, record: dict[str, Any]) -> None:
        """Add a line to log.jsonl."""
        append_log(self.folder, record)


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then the highest rate, then a line down to 1 % of it."""
    schedule = config.schedule
    done = step / max(1, schedule.autoencoder_steps + schedule.joint_steps)
    warm = min(1.0, (step + 1) / max(1, schedule.warmup_steps))
    fall = 1.0 if done < schedule.hold else (1.0 - done) / (1.0 - schedule.hold)
    return schedule.learning_rate * warm * max(FINAL_LEARNING_RATE, fall)


def _load_recognisers(config: TrainConfig) -> dict[str, OriginalWhisper]:
    names = [adapter_name(about.name) for about in config.recognisers]
    if len(set(names)) < len(names):
        raise TrainingError(f"[[recognisers]]: two adapters would have the same folder, {names}.")
    loaded = (load_whisper(about.name) for about in config.recognisers)
    return dict(zip(names, loaded, strict=True))


def _means(sums: dict[str, Tensor], counts: dict[str, int], step: int) -> dict[str, float]:
    """Means of all parts of the loss since the last line of the log."""
    return {
        key: round(finite(float(value) / counts[key], key, step), 4) for key, value in sums.items()
    }
