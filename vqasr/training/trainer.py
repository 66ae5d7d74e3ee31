"""The method's three stages, one after the other, resumable.

transformers' `Trainer` is not used: its checkpoints are pickles, it trains one model on batches of
a fixed number of items, and here each stage trains other parts on batches of a fixed duration.
"""

import copy
import dataclasses
import json
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from vqasr.adapters.code_embedder import CodeEmbedder, CodeEmbedderConfig
from vqasr.adapters.recogniser import load_recogniser
from vqasr.adapters.whisper_adapter import WhisperAdapter
from vqasr.configuration_vqcodec import VQCodecConfig
from vqasr.data import load_speech
from vqasr.feature_extraction_vqcodec import VQCodecFeatureExtractor
from vqasr.modeling_vqcodec import VQCodecModel
from vqasr.training.augment import Augment
from vqasr.training.batches import Batch, Batches
from vqasr.training.checkpoint import load_checkpoint, read_progress, save_checkpoint
from vqasr.training.config import StageConfig, TrainConfig
from vqasr.training.judge import Judge
from vqasr.training.losses import Losses, autoencoder_losses, joint_losses
from vqasr.training.speech_head import fit_speech_head
from vqasr.training.teacher import WhisperTeacher

STAGES = ("autoencoder", "quantizer", "joint")
# k-means sees this many latents per code; more changes little.
KMEANS_FRAMES_PER_CODE = 25
FINAL_LEARNING_RATE = 0.02  # of the highest, at the end of the cosine

logger = logging.getLogger("vqasr.train")


class ThreeStageTrainer:
    """Trains codec and Whisper adapter as one TOML file says.

    Args:
        config: everything the run depends on.
    """

    def __init__(self, config: TrainConfig):
        self.config = config
        self.folder = Path(config.output_dir)
        self.folder.mkdir(parents=True, exist_ok=True)
        if config.threads:
            torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.recogniser = load_recogniser(config.recogniser)
        self.teacher = WhisperTeacher(self.recogniser.model, self.recogniser.tokenizer)
        self.codec = VQCodecModel(VQCodecConfig(**config.codec))
        codec = self.codec.config
        self.embedder = CodeEmbedder(
            CodeEmbedderConfig(
                num_quantizers=codec.num_quantizers,
                codebook_size=codec.codebook_size,
                latent_dim=codec.latent_dim,
                embed_dim=self.recogniser.model.config.d_model,
                **config.adapter,
            )
        )
        self.noise = load_speech(config.data.noise, "train") if config.data.noise else None
        self.batches = Batches(
            load_speech(config.data.train, "train"),
            config.data,
            Augment(config.augment, self.noise),
            config.seed,
        )
        self.judge = Judge(
            load_speech(config.data.dev, "validation"),
            config.data.dev_utterances,
            self.recogniser,
        )
        self._move(self.device)

    def run(self) -> None:
        """Train what is still missing; an interrupted run goes on where it was saved."""
        progress = read_progress(self.folder) or {"stage": STAGES[0], "step": 0}
        logger.info("start: %s", json.dumps(progress))
        reached = STAGES.index(progress["stage"])
        if progress["step"] or reached:
            extra = load_checkpoint(self.folder, self._modules(), None)
            self.codec.quantizer.load_training_state(extra)
        for name in STAGES[reached:]:
            first = progress["step"] if name == progress["stage"] else 0
            stage: StageConfig = getattr(self.config, name)
            if name == "quantizer":
                self._quantizer_stage(stage, first)
            else:
                self._gradient_stage(name, stage, first)
            if first < stage.steps:
                self._report(name)
            following = STAGES[min(STAGES.index(name) + 1, len(STAGES) - 1)]
            step = 0 if following != name else stage.steps
            self._save(following, step, None)
        self._finish()

    def _finish(self) -> None:
        """Fit the speech head on the trained codes and write codec and adapter."""
        accuracy = fit_speech_head(
            self.codec.cpu(), self.embedder.cpu(), self.batches.from_step(0), self.noise,
            self.config.seed,
        )  # fmt: skip
        self._log({"stage": "speech_head", "accuracy": accuracy})
        adapter = WhisperAdapter(self.embedder, self.config.recogniser, self.codec.fingerprint())
        adapter.save_pretrained(self.folder / "adapter")
        copy.deepcopy(self.codec).half().save_pretrained(self.folder / "codec")
        VQCodecFeatureExtractor().save_pretrained(self.folder / "codec")
        logger.info("codec and adapter are in %s", self.folder)

    def _gradient_stage(self, name: str, stage: StageConfig, first: int) -> None:
        parameters = [p for m in self._modules().values() for p in m.parameters()]
        optimizer = torch.optim.AdamW(
            parameters, lr=stage.learning_rate, betas=(0.9, 0.98), weight_decay=0.01
        )
        if first and first < stage.steps:
            load_checkpoint(self.folder, self._modules(), optimizer)
        loss_of: Callable[[Batch, int], Losses]
        if name == "autoencoder":
            loss_of = lambda batch, step: autoencoder_losses(  # noqa: E731
                self.codec, self.embedder, self.teacher, batch
            )
        else:
            loss_of = lambda batch, step: joint_losses(  # noqa: E731
                self.codec, self.embedder, self.teacher, batch, self._levels(batch, step),
                self.config.loss, step >= self.config.loss.decoder_from * stage.steps,
            )  # fmt: skip
        self.codec.train(), self.embedder.train()

        def update(batch: Batch, step: int) -> dict[str, Tensor]:
            for group in optimizer.param_groups:
                group["lr"] = _learning_rate(stage, step)
            with torch.autocast(self.device.type, torch.bfloat16):
                losses = loss_of(batch, step)
            optimizer.zero_grad(set_to_none=True)
            losses.total.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            return losses.parts

        self._steps(name, stage, first, update, optimizer)
        # The adapter's own copy of the codebooks is what reads codes later.
        self.embedder.codebooks.copy_(self.codec.quantizer.codebooks)  # type: ignore[arg-type]

    def _quantizer_stage(self, stage: StageConfig, first: int) -> None:
        """Codebooks alone, on the latents of the frozen autoencoder."""
        self.codec.eval(), self.embedder.eval()
        if first == 0:
            self._fit_codebooks()
        self.codec.quantizer.train()

        @torch.no_grad()
        def update(batch: Batch, step: int) -> dict[str, Tensor]:
            latents, mask = self._latents(batch)
            levels = torch.full((len(latents),), self.codec.config.num_quantizers)
            out = self.codec.quantizer(latents, levels.to(self.device), mask)
            names = [f"perplexity_{i}" for i in range(len(out.perplexity))]
            return {
                "commitment": out.commitment_loss,
                **dict(zip(names, out.perplexity, strict=True)),
            }

        self._steps("quantizer", stage, first, update, None)
        self.embedder.codebooks.copy_(self.codec.quantizer.codebooks)  # type: ignore[arg-type]

    @torch.no_grad()
    def _fit_codebooks(self) -> None:
        wanted = KMEANS_FRAMES_PER_CODE * self.codec.config.codebook_size
        latents: list[Tensor] = []
        for batch in self.batches.from_step(0):
            values, mask = self._latents(batch.to(self.device))
            latents.append(values[mask].float())
            if sum(map(len, latents)) >= wanted:
                break
        generator = torch.Generator().manual_seed(self.config.seed)
        self.codec.quantizer.fit(torch.cat(latents), generator)

    def _latents(self, batch: Batch) -> tuple[Tensor, Tensor]:
        positions = torch.arange(batch.heard.shape[1], device=self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            return self.codec.encode_latents(batch.heard, positions[None] < batch.lengths[:, None])

    def _levels(self, batch: Batch, step: int) -> Tensor:
        """How many codebooks each item of the batch may use; depends on seed and step alone."""
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + step)
        choices = torch.tensor([int(n) for n in self.config.levels])
        weights = torch.tensor(list(self.config.levels.values()), dtype=torch.float)
        drawn = torch.multinomial(weights, len(batch.texts), True, generator=generator)
        return choices[drawn].to(self.device)

    def _steps(
        self,
        name: str,
        stage: StageConfig,
        first: int,
        update: Callable[[Batch, int], dict[str, Tensor]],
        optimizer: torch.optim.Optimizer | None,
    ) -> None:
        # Each stage reads its own stretch of the endless batches.
        offset = sum(getattr(self.config, s).steps for s in STAGES[: STAGES.index(name)])
        columns = (
            TextColumn(f"[bold]{name}"), BarColumn(), MofNCompleteColumn(),
            TimeRemainingColumn(), TextColumn("{task.fields[loss]}"),
        )  # fmt: skip
        if first >= stage.steps:
            return
        sums: dict[str, float] = {}
        started = time.monotonic()
        with Progress(*columns) as bar:
            task = bar.add_task(name, total=stage.steps, completed=first, loss="")
            batches = self.batches.from_step(offset + first)
            for step, batch in zip(range(first, stage.steps), batches, strict=False):
                # Dead codes are revived at random frames: the draw must not depend on a resume.
                torch.manual_seed(self.config.seed * 7_919 + offset + step)
                for key, value in update(batch.to(self.device), step).items():
                    sums[key] = sums.get(key, 0.0) + float(value.detach())
                done = step + 1
                if done % 50 == 0 or done == stage.steps:
                    since = (done - first) % 50 or 50
                    means = {k: round(v / since, 4) for k, v in sums.items()}
                    elapsed_s = round(time.monotonic() - started, 1)
                    self._log({"stage": name, "step": done, "elapsed_s": elapsed_s, **means})
                    bar.update(
                        task, loss=" ".join(f"{k} {v:.3f}" for k, v in list(means.items())[:5])
                    )
                    sums = {}
                bar.update(task, completed=done)
                if done % self.config.save_every == 0:
                    self._save(name, done, optimizer)
        batches.close()  # type: ignore[attr-defined]

    def _report(self, name: str) -> None:
        count = self.codec.config.num_quantizers
        some = sorted({1, min(2, count), min(4, count), count})
        mel, codes = {
            "autoencoder": ([0], []),
            "quantizer": (some, []),
            "joint": ([count], some),
        }[name]
        self._move(torch.device("cpu"))  # the codes are defined by the CPU's float32
        verdict = self.judge(self.codec, self.embedder, mel=mel, codes=codes)
        self._move(self.device)
        self._log({"stage": name, "dev": dataclasses.asdict(verdict)})

    def _move(self, device: torch.device) -> None:
        modules: list[nn.Module] = [self.codec, self.embedder, self.teacher]
        for module in modules:
            module.to(device)

    def _modules(self) -> dict[str, nn.Module]:
        return {"codec": self.codec, "adapter": self.embedder}

    def _save(self, stage: str, step: int, optimizer: torch.optim.Optimizer | None) -> None:
        save_checkpoint(
            self.folder,
            self._modules(),
            self.codec.quantizer.training_state(),
            optimizer,
            {"stage": stage, "step": step},
        )

    def _log(self, record: dict) -> None:
        with open(self.folder / "log.jsonl", "a") as file:
            file.write(json.dumps(record) + "\n")
        if "dev" in record:
            logger.info("after %s: %s", record["stage"], json.dumps(record["dev"]))


def _learning_rate(stage: StageConfig, step: int) -> float:
    """Linear warm-up, then a cosine down to 2 % of the highest."""
    if step < stage.warmup_steps:
        return stage.learning_rate * (step + 1) / stage.warmup_steps
    part = (step - stage.warmup_steps) / max(1, stage.steps - stage.warmup_steps)
    cosine = 0.5 * (1.0 + math.cos(math.pi * part))
    return stage.learning_rate * (FINAL_LEARNING_RATE + (1.0 - FINAL_LEARNING_RATE) * cosine)
