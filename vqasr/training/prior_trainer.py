"""The last stage: a code prior for the trained codec, so that its streams can be range-coded."""

import copy
import dataclasses
import hashlib
import json
import logging
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from vqasr.code_prior import CodePrior
from vqasr.data import row_audio
from vqasr.encoding import encode_audio
from vqasr.modeling_vqcodec import VQCodecModel
from vqasr.prior_config import STOP, CodePriorConfig
from vqasr.rates import Rates
from vqasr.training.augment import Augment
from vqasr.training.checkpoint import load_checkpoint, read_progress, save_checkpoint
from vqasr.training.config import PriorTrainConfig, StageConfig
from vqasr.training.precision import autocast
from vqasr.training.prior_data import training_codes
from vqasr.training.prior_network import PriorNetwork
from vqasr.training.step_loop import LOG_EVERY, append_log, finite, learning_rate

# Learning rate of the priced steps, as a part of the first ones'.
PRICED_RATE = 0.5
# Of each chunk in a batch; the network looks back on 126.
BATCH_FRAMES = 250

logger = logging.getLogger("vqasr.train")


class PriorTrainer:
    """Trains the prior of a codec.

    Args:
        config: the table [prior].
        codec: trained, on the CPU.
        train, dev: rows with audio; dev judges.
        augment: changes what is heard in all passes but the first.
        folder: of the run; the prior's state, codes and log go there.
        seed: of weights, order and augmentation.
        device: to train on.
        start: a prior of the codec to go on with; its sizes count then.
    """

    def __init__(
        self,
        config: PriorTrainConfig,
        codec: VQCodecModel,
        train: Dataset,
        dev: Dataset,
        augment: Augment,
        folder: Path,
        seed: int,
        device: torch.device,
        start: CodePrior | None = None,
    ):
        self.config = config
        self.codec = codec
        self.folder = folder / "prior_run"
        self._train, self._dev, self._augment = train, dev, augment
        self._seed = seed
        self._device = device
        torch.manual_seed(seed)
        sizes = (
            start.config
            if start
            else CodePriorConfig(
                num_quantizers=codec.config.num_quantizers,
                codebook_size=codec.config.codebook_size,
                codec_fingerprint=codec.fingerprint().hex(),
                num_modelled=min(config.num_modelled, codec.config.num_quantizers),
                width=config.width,
                head_size=config.head_size,
                dilations=tuple(config.dilations),
                variable_depth=codec.config.variable_depth,
            )
        )
        self.network = PriorNetwork(sizes, config.dropout)
        codebooks: Tensor = codec.quantizer.codebooks  # type: ignore[assignment]
        if start is None:
            self.network.start_from(codebooks[: sizes.num_modelled].float())
        else:
            self.network.go_on_from(start)
        named = [start.fingerprint.hex()] if start else []
        about = json.dumps([dataclasses.asdict(config), dataclasses.asdict(sizes), seed, *named])
        self._run = hashlib.sha256(about.encode()).hexdigest()[:12]

    def run(self, codes: np.ndarray | None = None) -> CodePrior:
        """Train what is still missing, judge, and return the integer prior.

        Args:
            codes: (num_quantizers, frames) int64 to learn; None encodes the training data.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        progress = read_progress(self.folder)
        if progress is not None and progress["config"] != self._run:
            logger.info("the prior in %s is of another codec or configuration: anew", self.folder)
            progress = None
        first = progress["step"] if progress else 0
        optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=self.config.learning_rate, betas=(0.9, 0.98),
            weight_decay=0.02,
        )  # fmt: skip
        self.network.to(self._device).train()
        if progress:
            load_checkpoint(self.folder, {"prior": self.network}, optimizer)
        steps, draft = self.config.steps, self.folder / "draft"
        if first < steps:
            learned = self._codes(None) if codes is None else codes
            stage = StageConfig(steps, self.config.learning_rate, 100)
            self._steps(stage, 0, first, learned, optimizer)
        if self.config.priced_steps and first < steps + self.config.priced_steps:
            if first <= steps:
                self._finished().save_pretrained(draft)
            learned = self._codes(CodePrior.from_pretrained(draft)) if codes is None else codes
            rate = self.config.learning_rate * PRICED_RATE
            stage = StageConfig(self.config.priced_steps, rate, 20)
            self._steps(stage, steps, max(first, steps), learned, optimizer)
        prior = self._finished()
        verdict = self._judge(prior)
        append_log(self.folder, {"stage": "prior", "dev": verdict})
        logger.info("prior: %s", json.dumps(verdict))
        return prior

    def _codes(self, prior: CodePrior | None) -> np.ndarray:
        """Those of the training data, chosen by a prior or the nearest ones."""
        return training_codes(
            self.codec, self._train, self._augment, self.config.passes, self._seed, self.folder,
            prior,
        )  # fmt: skip

    def _finished(self) -> CodePrior:
        """The integer prior of what was learned so far."""
        return copy.deepcopy(self.network).eval().to("cpu").to_prior()

    def _steps(
        self,
        stage: StageConfig,
        offset: int,
        first: int,
        codes: np.ndarray,
        optimizer: torch.optim.Optimizer,
    ) -> None:
        """From step `first` on, of a stage that begins with step `offset`."""
        last = offset + stage.steps
        learned = torch.from_numpy(codes)
        self.network.count(learned)
        learned = learned.to(self._device)
        columns = (
            TextColumn("[bold]prior"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[loss]}"),
        )  # fmt: skip
        losses: list[float] = []
        started = time.monotonic()
        with Progress(*columns) as bar:
            task = bar.add_task("prior", total=last, completed=first, loss="")
            for step in range(first, last):
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate(stage, step - offset)
                torch.manual_seed(self._seed * 7_919 + step)
                loss = self._loss(learned, np.random.default_rng([self._seed, 3, step]))
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
                optimizer.step()
                bits = float(loss.detach()) / math.log(2)
                losses.append(finite(bits, "the loss", step))
                done = step + 1
                if done % LOG_EVERY == 0 or done == last:
                    mean = round(float(np.mean(losses)), 4)
                    elapsed_s = round(time.monotonic() - started, 1)
                    record = {"stage": "prior", "step": done, "elapsed_s": elapsed_s}
                    append_log(self.folder, {**record, "bits_per_code": mean})
                    bar.update(task, loss=f"{mean:.3f} bits a code")
                    losses = []
                bar.update(task, completed=done)
                if done % self.config.save_every == 0 or done == last:
                    state = {"step": done, "config": self._run}
                    save_checkpoint(self.folder, {"prior": self.network}, {}, optimizer, state)

    def _loss(self, codes: Tensor, rng: np.random.Generator) -> Tensor:
        """Mean bits (in nats) of a few codebooks of random chunks, read with n codebooks."""
        # Low rates are what the codec is for: half of the steps read one or two codebooks.
        highest = self.network.config.num_modelled
        n = int(rng.integers(1, (highest if rng.random() < 0.5 else min(2, highest)) + 1))
        levels = sorted(rng.permutation(n)[: self.config.levels_per_step].tolist())
        length = min(BATCH_FRAMES, codes.shape[1])
        starts = rng.integers(0, codes.shape[1] - length + 1, self.config.batch_chunks)
        batch = torch.stack([codes[:n, s : s + length] for s in starts])
        with autocast(self._device):
            logits = self.network(batch, levels)
        size = self.codec.config.codebook_size
        losses = []
        for one, j in zip(logits, levels, strict=True):
            bits = F.cross_entropy(
                one.float().reshape(-1, size), batch[:, j].reshape(-1), reduction="none"
            )
            if self.network.config.variable_depth and j > 1:  # a stop after a stop is certain
                bits = bits * (batch[:, j - 1].reshape(-1) != STOP)
            losses.append(bits.mean())
        return torch.stack(losses).mean()

    def _judge(self, prior: CodePrior) -> dict[str, Any]:
        """Nominal, order-0 and cross-entropy rates on dev, for several numbers of codebooks."""
        count = min(self.config.dev_utterances, len(self._dev))
        clips = [row_audio(self._dev[i]) for i in range(count)]
        encoded = [encode_audio(self.codec, clip) for clip in clips]
        verdict = {}
        for n in sorted({1, 2, 4, self.codec.config.num_quantizers}):
            if n <= self.codec.config.num_quantizers:
                config = self.codec.config
                bits_per_code = math.log2(config.codebook_size)
                rates = Rates(prior, None, config.hop_length, bits_per_code)
                for clip, codes in zip(clips, encoded, strict=True):
                    rates.add(codes[:n], len(clip), 0)
                summary = rates.summary()
                verdict[str(n)] = {k: summary[f"{k}_bps"] for k in ("nominal", "order0", "prior")}
        return verdict
