"""The method's stages, one after the other, resumable.

transformers' `Trainer` is not used: its checkpoints are pickles, it trains one model on batches of
a fixed number of items, and here each stage trains other parts on batches of a fixed duration.
"""

import copy
import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vqasr.adapters.code_embedder import fill_undrawn_levels
from vqasr.adapters.codes_adapter import CodesAdapter
from vqasr.adapters.recogniser import load_recogniser
from vqasr.data import load_speech
from vqasr.errors import TrainingError
from vqasr.feature_extraction_vqcodec import VQCodecFeatureExtractor
from vqasr.training.augment import Augment
from vqasr.training.batches import Batch, Batches
from vqasr.training.checkpoint import load_checkpoint, read_progress, save_checkpoint
from vqasr.training.closing import closed_losses, fit_closing_frames
from vqasr.training.config import StageConfig, TrainConfig, config_hash, drawn_levels
from vqasr.training.finish_prior import finish_prior
from vqasr.training.hearing import UsualCodes, hearing_losses
from vqasr.training.judge import Judge
from vqasr.training.losses import Losses, autoencoder_losses, gap_losses, joint_losses
from vqasr.training.modules import build_modules, load_adapter, load_finished
from vqasr.training.optimizer import MuonAndAdamW, adamw
from vqasr.training.precision import autocast
from vqasr.training.prices import draw_refined
from vqasr.training.speech_head import fit_speech_head
from vqasr.training.step_loop import StepLoop, append_log, finite, learning_rate
from vqasr.training.teacher import WhisperTeacher

STAGES = ("autoencoder", "quantizer", "joint", "gaps")
FINISHED = "finished"
# k-means sees this many latents per code; more changes little.
KMEANS_FRAMES_PER_CODE = 25

logger = logging.getLogger("vqasr.train")


class StageTrainer:
    """Trains codec and Whisper adapter as one TOML file says.

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
        self.recogniser = load_recogniser(config.recogniser)
        self.teacher = WhisperTeacher(self.recogniser.model, self.recogniser.tokenizer, self.device)
        width = self.recogniser.model.config.d_model
        self.codec, self.embedder = build_modules(config, width)
        data = config.data
        self.noise = load_speech(data.noise, "train") if data.noise else None
        self.train_data = load_speech(data.train, data.train_split)
        self.augment = Augment(config.augment, self.noise)
        self.batches = Batches(self.train_data, data, self.augment, config.seed)
        self.dev = load_speech(data.dev, data.dev_split)
        self.judge = Judge(self.dev, data.text_column, data.dev_utterances, self.recogniser)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._move(self.device)

    def run(self) -> None:
        """Train what is still missing; an interrupted run goes on where it was saved.

        Raises:
            TrainingError: the folder holds a run of another configuration, or a loss is not finite.
        """
        started: dict[str, Any] = {
            "stage": STAGES[0],
            "step": 0,
            "config": config_hash(self.config),
        }
        progress = read_progress(self.folder) or started
        if progress["config"] != started["config"]:
            raise TrainingError(
                f"{self.folder} holds a run of another configuration. Name another output_dir, or "
                "delete the folder to start over."
            )
        logger.info("start: stage %s, step %d", progress["stage"], progress["step"])
        if progress["stage"] != STAGES[0] or progress["step"]:
            self.load(self.folder)
        elif self.config.start_from and self.config.frozen_codec:
            load_adapter(self.config.start_from, self.codec, self.embedder)
        elif self.config.start_from:
            self.load(Path(self.config.start_from))
        order = [*STAGES, FINISHED]
        for name in STAGES[order.index(progress["stage"]) :]:
            first = progress["step"] if name == progress["stage"] else 0
            stage: StageConfig = getattr(self.config, name)
            if name == "quantizer":
                self._quantizer_stage(stage, first)
            else:
                self.gradient_stage(name, stage, first)
            # The adapter's own copy of the quantizer is what reads codes later.
            self.embedder.quantizer.load_state_dict(self.codec.quantizer.state_dict())
            if stage.steps and name != "gaps":  # which changes nothing but lost frames
                self.report(name)
            self._save(order[order.index(name) + 1], 0, None)
        self._finish()

    def gradient_stage(self, name: str, stage: StageConfig, first: int) -> None:
        """Train in the stage "autoencoder", "joint" or "gaps", from step `first` on."""
        parameters = [p for m in self._modules().values() for p in m.parameters()]
        if name == "gaps":
            # Whatever else it changed would change what is heard without any loss.
            parameters = [self.embedder.missing_frame]
            self.codec.requires_grad_(False), self.embedder.requires_grad_(False)
            self.embedder.missing_frame.requires_grad_(True)
        elif self.config.frozen_codec:
            parameters = [*self.embedder.parameters()]
            self.codec.requires_grad_(False)
        elif self.config.frozen_prior:
            parameters = [*self.codec.encoder.parameters()]
            self.codec.requires_grad_(False), self.embedder.requires_grad_(False)
            self.codec.encoder.requires_grad_(True)
        muon = self.config.optimizer == "muon" and name == "joint"
        optimizer = (MuonAndAdamW if muon else adamw)(parameters, stage.learning_rate)
        if 0 < first < stage.steps:
            load_checkpoint(self.folder, self._modules(), optimizer)
        fixed = name == "gaps" or self.config.frozen_codec or self.config.frozen_prior
        self.codec.train(not fixed), self.embedder.train()
        if name == "gaps" and first == 0 and stage.steps:
            with torch.no_grad():  # a lost frame is at first what no frame is
                self.embedder.missing_frame.copy_(self.embedder.no_frame)
        decoder_from = self.config.loss.decoder_from * stage.steps
        usual_codes: UsualCodes | None = None
        if self.config.frozen_prior and stage.steps:
            usual_codes = UsualCodes.of_start(self.config, self.train_data)

        def losses_of(batch: Batch, step: int) -> Losses:
            if name == "autoencoder":
                return autoencoder_losses(self.codec, self.embedder, self.teacher, batch)
            levels, refined = self._levels(batch, step), self._refined(batch, step)
            weights = self.config.loss
            if usual_codes is not None and refined is not None:
                return hearing_losses(
                    self.codec, self.embedder, self.teacher, batch, levels, refined, usual_codes,
                    weights,
                )  # fmt: skip
            if name == "gaps" or (weights.end and step % 2):
                generator = torch.Generator().manual_seed(self.config.seed * 1_000_033 + step)
                special = gap_losses if name == "gaps" else closed_losses
                parts = self.codec, self.embedder, self.teacher
                return special(*parts, batch, levels, weights, generator, refined)
            return joint_losses(
                self.codec, self.embedder, self.teacher, batch, levels, weights,
                with_decoder=step >= decoder_from, refined=refined,
            )  # fmt: skip

        def update(batch: Batch, step: int) -> dict[str, Tensor]:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(stage, step)
            with autocast(self.device):
                losses = losses_of(batch, step)
            finite(float(losses.total.detach()), "the loss", step)
            optimizer.zero_grad(set_to_none=True)
            losses.total.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            return losses.parts

        self._loop(name, stage, first).run(
            self.batches, self.device, update, lambda n: self._save(name, n, optimizer), self.log
        )
        self.codec.requires_grad_(True), self.embedder.requires_grad_(True)

    def _quantizer_stage(self, stage: StageConfig, first: int) -> None:
        """Codebooks alone, on the latents of the frozen autoencoder."""
        self.codec.eval(), self.embedder.eval()
        if stage.steps and first == 0:
            self.fit_codebooks()
        self.codec.quantizer.train()

        @torch.no_grad()
        def update(batch: Batch, step: int) -> dict[str, Tensor]:
            latents, mask = self._latents(batch)
            levels = torch.full((len(latents),), self.codec.config.num_quantizers)
            out = self.codec.quantizer(latents, levels.to(self.device), mask)
            perplexity = {f"perplexity_{i}": p for i, p in enumerate(out.perplexity)}
            return {"commitment": out.commitment_loss, **perplexity}

        self._loop("quantizer", stage, first).run(
            self.batches, self.device, update, lambda n: self._save("quantizer", n, None), self.log
        )

    @torch.no_grad()
    def fit_codebooks(self, first: int = 0) -> None:
        """k-means on the latents of the first batches, for codebooks from `first` on."""
        wanted = KMEANS_FRAMES_PER_CODE * self.codec.config.codebook_size
        latents: list[Tensor] = []
        for batch in self.batches.from_step(0):
            values, mask = self._latents(batch.to(self.device))
            latents.append(values[mask].float())
            if sum(map(len, latents)) >= wanted:
                break
        generator = torch.Generator().manual_seed(self.config.seed)
        self.codec.quantizer.fit(torch.cat(latents), generator, first)

    def _latents(self, batch: Batch) -> tuple[Tensor, Tensor]:
        with autocast(self.device):
            return self.codec.encode_latents(batch.heard, batch.sample_mask)

    def _levels(self, batch: Batch, step: int) -> Tensor:
        """How many codebooks each item of the batch may use; depends on seed and step alone."""
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + step)
        choices = torch.tensor(drawn_levels(self.config))
        weights = torch.tensor(list(self.config.levels.values()), dtype=torch.float)
        drawn = torch.multinomial(weights, len(batch.texts), True, generator=generator)
        return choices[drawn].to(self.device)

    def _refined(self, batch: Batch, step: int) -> Tensor | None:
        """Share of frames beyond the first codebook of each item; None without variable depth."""
        if not self.codec.config.variable_depth:
            return None
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_037 + step)
        draws = torch.rand(2, len(batch.texts), generator=generator)
        return draw_refined(*draws).to(self.device)

    def report(self, name: str) -> None:
        """Judge codec and adapter after the stage `name`, in log.jsonl."""
        count = self.codec.config.num_quantizers
        some = sorted({min(n, count) for n in (1, 2, 4, count)})
        mel, codes = {
            "autoencoder": ([0], []),
            "quantizer": (some, []),
            "joint": ([] if self.config.frozen_codec else [count], some),
        }[name]
        self._move(torch.device("cpu"))  # the codes are defined by the CPU's float32
        verdict = dataclasses.asdict(self.judge(self.codec, self.embedder, mel=mel, codes=codes))
        self._move(self.device)
        self.log({"stage": name, "dev": verdict})
        logger.info("after %s: %s", name, json.dumps(verdict))

    def _finish(self) -> None:
        """Fit the speech head on the trained codes and write codec and adapter."""
        self._move(torch.device("cpu"))
        if not self.config.frozen_prior:  # then the adapter stays as it is
            fill_undrawn_levels(self.embedder, drawn_levels(self.config))
        accuracy = fit_speech_head(
            self.codec, self.embedder, self.batches.from_step(0), self.noise, self.config.seed
        )
        self.log({"stage": "speech_head", "accuracy": accuracy})
        if self.config.closing.steps:
            self._move(self.device)
            nats = fit_closing_frames(
                self.codec, self.embedder, self.teacher, self.batches.from_step(0),
                self.config.closing, self.config.seed,
            )  # fmt: skip
            self.log({"stage": "closing", "cross_entropy": nats})
            self._move(torch.device("cpu"))
        self.save_finished()
        finish_prior(self)

    def save_finished(self) -> None:
        """Write the folders codec (unless it is a frozen one) and adapter."""
        adapter = CodesAdapter(
            self.embedder,
            self.config.recogniser,
            self.recogniser.fingerprint(),
            self.codec.fingerprint(),
        )
        adapter.save_pretrained(self.folder / "adapter")
        logger.info("the adapter is in %s", self.folder / "adapter")
        if not self.config.frozen_codec:
            copy.deepcopy(self.codec).half().save_pretrained(self.folder / "codec")
            VQCodecFeatureExtractor().save_pretrained(self.folder / "codec")
            logger.info("the codec is in %s", self.folder / "codec")

    def _loop(self, name: str, stage: StageConfig, first: int) -> StepLoop:
        offset = sum(getattr(self.config, s).steps for s in STAGES[: STAGES.index(name)])
        return StepLoop(name, stage, first, offset, self.config.seed, self.config.save_every)

    def _move(self, device: torch.device) -> None:
        modules: list[nn.Module] = [self.codec, self.embedder, self.teacher]
        for module in modules:
            module.to(device)

    def _modules(self) -> dict[str, nn.Module]:
        return {"codec": self.codec, "adapter": self.embedder}

    def load(self, folder: Path) -> None:
        """Take codec and adapter of a run, from its state or else from what it finished.

        Raises:
            TrainingError: there is neither, or they have another shape.
        """
        if read_progress(folder) is not None:
            extra = load_checkpoint(folder, self._modules(), None)
        else:
            load_finished(folder, self.codec, self.embedder)
            extra = {}
        self.codec.quantizer.load_training_state(extra)

    def _save(
        self, stage: str, step: int, optimizer: torch.optim.Optimizer | MuonAndAdamW | None
    ) -> None:
        progress = {"stage": stage, "step": step, "config": config_hash(self.config)}
        state = self.codec.quantizer.training_state()
        save_checkpoint(self.folder, self._modules(), state, optimizer, progress)

    def log(self, record: dict) -> None:
        append_log(self.folder, record)
