"""The last stage: a code prior for the trained codec, so that its streams can be range-coded."""

import copy
import dataclasses
import hashlib
import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from vqasr.codec.modeling import VQCodecModel
from vqasr.compression.compress import encode_audio, stream_of
from vqasr.entropy.prior import CodePrior
from vqasr.entropy.prior_config import CodePriorConfig
from vqasr.grid import SAMPLING_RATE_HZ, STOP
from vqasr.stream.rates import Rates
from vqasr.training.batches import Batches
from vqasr.training.checkpoint import RunFolder, StepLog
from vqasr.training.config import TrainConfig
from vqasr.training.optimizer import adamw, set_rate
from vqasr.training.precision import autocast
from vqasr.training.prior_data import RateSchedule, training_codes
from vqasr.training.prior_network import PriorNetwork
from vqasr.training.recordings import Recordings

PRICED_RATE = 0.5  # learning rate of the priced steps, as a fraction of the first steps'
WARMUP_STEPS, FINAL_RATE = 100, 0.02
LOG_EVERY = 50  # steps
# Bit prices at which rates are measured, as fractions of the mean squared distance that the first
# codebook leaves.
PRICES = (
    0.22, 0.16, 0.13, 0.11, 0.095, 0.08, 0.068, 0.057, 0.048, 0.04, 0.032, 0.025, 0.019, 0.014,
    0.009, 0.0,
)  # fmt: skip
BATCH_FRAMES = 250  # of each chunk in a batch; the network looks back on 126

logger = logging.getLogger("vqasr.train")


class PriorTrainer:
    """Train the prior of a trained codec, on the device of the batches.

    State, codes and log are written to a folder below the run's output_dir; `dev` measures it.
    """

    def __init__(self, config: TrainConfig, codec: VQCodecModel, batches: Batches, dev: Recordings):
        self.config, self.codec, self._batches, self._dev = config.prior, codec, batches, dev
        self.folder, self._seed = Path(config.output_dir) / "prior_run", config.seed
        torch.manual_seed(config.seed)
        sizes = CodePriorConfig(
            num_quantizers=codec.config.num_quantizers,
            codebook_size=codec.config.codebook_size,
            codec_fingerprint=codec.fingerprint().hex(),
            num_modelled=min(self.config.num_modelled, codec.config.num_quantizers),
            width=self.config.width,
            head_size=self.config.head_size,
            dilations=tuple(self.config.dilations),
            variable_depth=codec.config.variable_depth,
        )
        self.network = PriorNetwork(sizes, self.config.dropout)
        self.network.start_from(codec.quantizer.codebooks[: sizes.num_modelled].float())
        run = json.dumps([self.config.model_dump(), dataclasses.asdict(sizes), config.seed])
        config_hash = hashlib.sha256(run.encode()).hexdigest()[:12]
        self._run_folder = RunFolder(self.folder, "prior", config_hash)

    def run(self) -> CodePrior:
        """Train the steps that are missing, measure, and return the integer prior."""
        first = self._run_folder.steps_done()
        if first is None:
            logger.info("%s: prior of another codec or configuration, starting over", self.folder)
        self.network.to(self._batches.device).train()
        parameters = list(self.network.parameters())
        optimizer = adamw(parameters, self.config.learning_rate, decay=0.02)
        if first:
            self._run_folder.load(self.network, optimizer)
        first = first or 0
        steps, draft = self.config.steps, self.folder / "draft"
        for begin, last in ((0, steps), (steps, steps + self.config.priced_steps)):
            if max(first, begin) < last:
                if begin and first <= begin:
                    self._integer_prior().save_pretrained(draft)
                prior = CodePrior.from_pretrained(draft) if begin else None
                self._train(begin, last, max(first, begin), prior, optimizer)
        prior = self._integer_prior()
        rates = self._measure(prior)
        self._run_folder.log({"stage": "prior", "dev": rates})
        on_dev = ", ".join(f"{rate['prior']} bit/s with {n}" for n, rate in rates.items())
        logger.info("prior on dev: %s codebooks", on_dev)
        return prior

    def _integer_prior(self) -> CodePrior:
        return copy.deepcopy(self.network).eval().to("cpu").to_prior()

    def _train(
        self, begin: int, last: int, first: int, prior: CodePrior | None, optimizer: Optimizer
    ) -> None:
        """Train the stage of steps `begin` to `last`, from step `first` on."""
        passes = self.config.passes
        codes = torch.from_numpy(
            training_codes(self.codec, self._batches, passes, self._seed, self.folder, prior)
        )
        self.network.count(codes)
        codes = codes.to(self._batches.device)
        with StepLog(self._run_folder, first, last, LOG_EVERY, self.config.save_every) as log:
            for step in range(first, last):
                set_rate(optimizer, self._learning_rate(step, begin, last))
                torch.manual_seed(self._seed * 7_919 + step)
                loss = self._loss(codes, np.random.default_rng([self._seed, 3, step]))
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
                optimizer.step()
                if log.add("prior", step, {"bits_per_code": loss.detach() / math.log(2)}):
                    self._run_folder.save(step + 1, self.network, optimizer, {})

    def _learning_rate(self, step: int, begin: int, last: int) -> float:
        """Linear warm-up, then a cosine down to 2 % of the highest."""
        highest = self.config.learning_rate * (PRICED_RATE if begin else 1.0)
        warm = min(1.0, (step - begin + 1) / WARMUP_STEPS)
        cosine = 0.5 * (1.0 + math.cos(math.pi * (step - begin) / max(1, last - begin)))
        return highest * warm * (FINAL_RATE + (1.0 - FINAL_RATE) * cosine)

    def _loss(self, codes: Tensor, rng: np.random.Generator) -> Tensor:
        """Mean cross-entropy (nats a code) of some codebooks of random chunks of n codebooks."""
        # The codec is made for low rates: half of the steps read one or two codebooks.
        sizes = self.network.config
        highest = sizes.num_modelled
        n = int(rng.integers(1, (highest if rng.random() < 0.5 else min(2, highest)) + 1))
        levels = sorted(rng.permutation(n)[: self.config.levels_per_step].tolist())
        length = min(BATCH_FRAMES, codes.shape[1])
        starts = rng.integers(0, codes.shape[1] - length + 1, self.config.batch_chunks)
        batch = torch.stack([codes[:n, s : s + length] for s in starts])
        with autocast(codes.device):
            logits = self.network(batch, levels)
        losses = []
        for j, level_logits in zip(levels, logits, strict=True):
            level_logits = level_logits.float().flatten(0, 1)
            nats = F.cross_entropy(level_logits, batch[:, j].flatten(), reduction="none")
            if sizes.variable_depth and j > 1:  # a stop after a stop is certain
                nats = nats * (batch[:, j - 1].flatten() != STOP)
            losses.append(nats.mean())
        return torch.stack(losses).mean()

    def _measure(self, prior: CodePrior) -> dict[str, Any]:
        """Nominal, order-0 and cross-entropy rates on dev, for several numbers of codebooks."""
        sizes = self.codec.config
        count = min(self.config.dev_utterances, len(self._dev))
        clips = [self._dev.samples(i) for i in range(count)]
        encoded = [encode_audio(self.codec, clip) for clip in clips]
        measured = {}
        for n in sorted({1, 2, 4, sizes.num_quantizers}):
            if n > sizes.num_quantizers:
                continue
            rates = Rates(prior, None, sizes.hop_length, math.log2(sizes.codebook_size))
            for clip, codes in zip(clips, encoded, strict=True):
                rates.add(codes[:n], len(clip), 0)
            summary = rates.summary()
            measured[str(n)] = {k: summary[f"{k}_bps"] for k in ("nominal", "order0", "prior")}
        return measured


def price_points(
    codec: VQCodecModel, prior: CodePrior, clips: list[np.ndarray]
) -> list[tuple[float, int, float]]:
    """Measure `VQCodecConfig.price_points` on clips, in order of the rate."""
    seconds = sum(map(len, clips)) / SAMPLING_RATE_HZ
    schedule, n = RateSchedule(codec, clips), prior.config.num_modelled
    points = []
    for fraction in PRICES:
        price = round(fraction * schedule.mean_distance, 4)
        size = 0
        for clip in clips:
            codes = encode_audio(codec, clip, n, price, prior)
            size += len(stream_of(codec, codes, len(clip), prior=prior).to_bytes())
        points.append((round(8 * size / seconds, 1), n, price))
    return sorted(points)
