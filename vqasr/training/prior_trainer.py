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
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.optim import Optimizer

from vqasr.codec.modeling import VQCodecModel
from vqasr.compression.compress import encode_audio
from vqasr.entropy.prior import CodePrior
from vqasr.entropy.prior_config import CodePriorConfig
from vqasr.grid import STOP
from vqasr.stream.rates import Rates
from vqasr.training.batches import Batches
from vqasr.training.checkpoint import append_log, load_checkpoint, read_progress, save_checkpoint
from vqasr.training.config import PriorConfig
from vqasr.training.optimizer import finite
from vqasr.training.precision import autocast
from vqasr.training.prior_data import training_codes
from vqasr.training.prior_network import PriorNetwork
from vqasr.training.recordings import Recordings

# Learning rate of the priced steps, as a part of the first ones'.
PRICED_RATE = 0.5
WARMUP_STEPS, FINAL_RATE = 100, 0.02
LOG_EVERY = 50
# Of each chunk in a batch; the network looks back on 126.
BATCH_FRAMES = 250

logger = logging.getLogger("vqasr.train")


class PriorTrainer:
    """Trains the prior of a codec.

    Args:
        config: the table [prior].
        codec: trained, on the CPU.
        batches: of the training recordings; the prior is trained on their device.
        dev: recordings that measure it.
        folder: of the run; the prior's state, codes and log go there.
        seed: of weights, order and augmentation.
    """

    def __init__(
        self,
        config: PriorConfig,
        codec: VQCodecModel,
        batches: Batches,
        dev: Recordings,
        folder: Path,
        seed: int,
    ):
        self.config = config
        self.codec = codec
        self.folder = folder / "prior_run"
        self._batches, self._dev = batches, dev
        self._seed = seed
        self._device = batches.device
        torch.manual_seed(seed)
        sizes = CodePriorConfig(
            num_quantizers=codec.config.num_quantizers,
            codebook_size=codec.config.codebook_size,
            codec_fingerprint=codec.fingerprint().hex(),
            num_modelled=min(config.num_modelled, codec.config.num_quantizers),
            width=config.width,
            head_size=config.head_size,
            dilations=tuple(config.dilations),
            variable_depth=codec.config.variable_depth,
        )
        self.network = PriorNetwork(sizes, config.dropout)
        self.network.start_from(codec.quantizer.codebooks[: sizes.num_modelled].float())
        about = json.dumps([config.model_dump(), dataclasses.asdict(sizes), seed])
        self._run = hashlib.sha256(about.encode()).hexdigest()[:12]

    def run(self) -> CodePrior:
        """Train what is still missing, measure, and return the integer prior."""
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
            self._steps(0, steps, first, self._codes(None), optimizer)
        if self.config.priced_steps and first < steps + self.config.priced_steps:
            if first <= steps:
                self._finished().save_pretrained(draft)
            learned = self._codes(CodePrior.from_pretrained(draft))
            last = steps + self.config.priced_steps
            self._steps(steps, last, max(first, steps), learned, optimizer)
        prior = self._finished()
        verdict = self._measure(prior)
        append_log(self.folder, {"stage": "prior", "dev": verdict})
        logger.info("prior: %s", json.dumps(verdict))
        return prior

    def _codes(self, prior: CodePrior | None) -> np.ndarray:
        """Those of the training data, chosen by a prior or the nearest ones."""
        return training_codes(
            self.codec, self._batches, self.config.passes, self._seed, self.folder, prior
        )

    def _finished(self) -> CodePrior:
        """The integer prior of what was learned so far."""
        return copy.deepcopy(self.network).eval().to("cpu").to_prior()

    def _steps(
        self, begin: int, last: int, first: int, codes: np.ndarray, optimizer: Optimizer
    ) -> None:
        """From step `first` on, of the steps from `begin` to `last`."""
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
                    group["lr"] = self._learning_rate(step, begin, last)
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

    def _learning_rate(self, step: int, begin: int, last: int) -> float:
        """Linear warm-up, then a cosine down to 2 % of the highest."""
        highest = self.config.learning_rate * (PRICED_RATE if begin else 1.0)
        warm = min(1.0, (step - begin + 1) / WARMUP_STEPS)
        cosine = 0.5 * (1.0 + math.cos(math.pi * (step - begin) / max(1, last - begin)))
        return highest * warm * (FINAL_RATE + (1.0 - FINAL_RATE) * cosine)

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

    def _measure(self, prior: CodePrior) -> dict[str, Any]:
        """Nominal, order-0 and cross-entropy rates on dev, for several numbers of codebooks."""
        count = min(self.config.dev_utterances, len(self._dev))
        clips = [self._dev.samples(i) for i in range(count)]
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
