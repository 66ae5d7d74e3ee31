"""Training of a vocoder for a finished codec; resumable."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vqasr.adapters.original_whisper import load_whisper
from vqasr.codec.mel import clip_mel_power
from vqasr.codec.modeling import VQCodecModel
from vqasr.codec.vocoder import MIDDLE_PITCH_HZ, Vocoder, VocoderConfig
from vqasr.data.speech import load_speech
from vqasr.errors import TrainingError
from vqasr.grid import HOP_LENGTH, HOPS_PER_FRAME, SAMPLING_RATE_HZ
from vqasr.training.augment import Augment
from vqasr.training.batches import Batches
from vqasr.training.checkpoint import RunFolder, StepLog
from vqasr.training.coded_recordings import CodedRecordings, Crops
from vqasr.training.config import (
    NO_CHANGE,
    DataConfig,
    TrainConfig,
    VocoderTrainConfig,
    check_keys,
    config_hash,
)
from vqasr.training.discriminators import Adversary
from vqasr.training.losses import divergence, relative_distance
from vqasr.training.loudness import loudness_distance
from vqasr.training.optimizer import make_optimizer, set_rate
from vqasr.training.parallel import Processes
from vqasr.training.precision import autocast
from vqasr.training.recordings import Recordings
from vqasr.training.spectral_losses import spectral_losses
from vqasr.training.teacher import WhisperTeacher
from vqasr.training.texts import english_prompt

# The first frames of a crop lack what was before them, and do not count.
IGNORED_FRAMES = 8
LONGEST_LOSS_FRAMES = 25
DEV_LEVELS = (1, 2, 4, 8)
# Whisper writes three to six tokens a second of speech.
TOKENS_PER_S = 5
PIECE_S, LONGEST_S = 48.0, 29.6

logger = logging.getLogger("vqasr.train")


class VocoderTrainer:
    """Train a vocoder as configured, on crops of clean speech and their codes.

    Raises:
        TrainingError: the configuration cannot be used.
    """

    def __init__(self, config: VocoderTrainConfig):
        self.config, self.folder = config, Path(config.output_dir)
        if config.threads:
            torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        processes = Processes()
        if processes.count > 1:
            raise TrainingError(
                f"a vocoder is trained by one process, not by {processes.count}: start it without "
                "accelerate launch."
            )
        self.device = processes.device
        self.codec = VQCodecModel.from_pretrained(config.codec).eval().requires_grad_(False)
        sizes = self.codec.config
        if not set(config.levels) <= set(range(1, sizes.num_quantizers + 1)):
            raise TrainingError(
                f"[levels] draws {sorted(config.levels)} codebooks: 1 to {sizes.num_quantizers} "
                "are allowed."
            )
        check_keys("vocoder", config.vocoder, VocoderConfig)
        own = VocoderConfig(
            latent_dim=sizes.latent_dim, codec_fingerprint=self.codec.fingerprint().hex(),
            **config.vocoder,
        )  # fmt: skip
        vocoder: Any = Vocoder(own)  # transformers' types refuse `to`
        if config.start_from:
            self._copy_weights(vocoder)
        self.vocoder: Vocoder = vocoder.to(self.device)
        self.teacher: WhisperTeacher | None = None
        if config.recogniser:
            self.teacher = WhisperTeacher(load_whisper(config.recogniser).model, self.device)
        self.adversary: Adversary | None = None
        if config.adversary is not None:
            self.adversary = Adversary(config.adversary.learning_rate, self.device)
            self._adversary_from = config.adversary.from_step
        self.train = self._encoded(config.train, config.train_split, None)
        self.dev = self._encoded(config.dev, config.dev_split, config.dev_utterances)
        self.codebooks = self.codec.quantizer.codebooks.to(self.device)
        self.run_folder = RunFolder(self.folder, "vocoder", config_hash(config))

    def _copy_weights(self, vocoder: Vocoder) -> None:
        """Begin with the weights of another vocoder of the same sizes."""
        start = Vocoder.from_pretrained(self.config.start_from)
        try:
            vocoder.load_state_dict(start.state_dict())
        except RuntimeError as error:
            raise TrainingError(
                f"start_from = {self.config.start_from!r} has other sizes than [vocoder]: "
                f"{str(error).splitlines()[-1].strip()}"
            ) from error

    def _encoded(self, data: list[str], split: str, count: int | None) -> CodedRecordings:
        rows = load_speech(data, split)
        recordings = Recordings.from_rows(rows, self.device, LONGEST_S, "text")
        if count is not None:
            places = np.linspace(0, len(recordings) - 1, min(count, len(recordings)))
            recordings = recordings.select(places.astype(int).tolist())
        config = self.config
        as_they_are = TrainConfig(
            output_dir=config.output_dir, data=DataConfig(train=config.train, dev=config.dev),
            augment=NO_CHANGE,
        )  # fmt: skip
        batches = Batches(recordings, Augment(None, self.device), as_they_are, PIECE_S)
        return CodedRecordings.encode(recordings, self.codec, batches, config.seed, self.folder)

    def run(self) -> None:
        """Train the steps that are missing; an interrupted run resumes at its last checkpoint.

        Raises:
            TrainingError: the folder holds a run of another configuration, or a loss is not finite.
        """
        first = self.run_folder.first_step()
        schedule, total = self.config.schedule, self.config.schedule.total_steps
        parameters = list(self.vocoder.parameters())
        optimizer = make_optimizer(self.config.optimizer, parameters, schedule.learning_rate)
        if first:
            extra = self.run_folder.load(self.vocoder, optimizer)
            if self.adversary is not None:
                self.adversary.load(extra)
        with StepLog(self.run_folder, first, total, schedule.log_every, schedule.save_every) as log:
            for step in range(first, total):
                losses, audio_s = self.update(optimizer, step)
                done = step + 1
                if log.add("vocoder", step, losses, audio_s):
                    extra = {} if self.adversary is None else self.adversary.state()
                    self.run_folder.save(done, self.vocoder, optimizer, extra)
                    self.vocoder.save_pretrained(self.folder / "vocoder")
                if done % schedule.dev_every == 0 or done == total:
                    measured = self.evaluate()
                    self.run_folder.log({"stage": "dev", "step": done, **measured})
                    distances = ", ".join(f"{name} {value}" for name, value in measured.items())
                    logger.info("step %d, distances on dev: %s", done, distances)
        self.vocoder.save_int8(self.folder / "vocoder-int8")

    def update(self, optimizer: Optimizer, step: int) -> tuple[dict[str, Tensor], float]:
        """Make one step; return the parts of the loss and the seconds of audio."""
        config = self.config
        set_rate(optimizer, config.schedule.rate(step))
        rng = np.random.default_rng([config.seed, step])
        crops = self.train.crops(rng, config.batch_crops, config.crop_frames)
        weights = np.array(list(config.levels.values()), float)
        levels = rng.choice(list(config.levels), config.batch_crops, p=weights / weights.sum())
        lost = lost_pieces(rng, config.batch_crops, config.crop_frames, config.lost)
        latents = self.latents(crops.codes, torch.from_numpy(levels).to(self.device))
        lost_frames = torch.from_numpy(lost).to(self.device)
        decoded, octaves = self.decode(crops, latents, lost_frames)
        losses = self.losses(crops, decoded, octaves)
        logged: dict[str, Tensor] = {}
        if self.adversary is not None and step >= self._adversary_from:
            counted = slice(IGNORED_FRAMES * HOP_LENGTH, None)
            pair = decoded[:, counted], crops.samples[:, counted]
            logged["discriminators"] = self.adversary.update(*pair)
            losses |= self.adversary.losses(*pair)
        factors = config.loss.model_dump()
        optimizer.zero_grad()
        torch.stack([factors[name] * loss for name, loss in losses.items()]).sum().backward()
        nn.utils.clip_grad_norm_(self.vocoder.parameters(), 1.0)
        optimizer.step()
        audio_s = crops.samples.numel() / SAMPLING_RATE_HZ
        return logged | {k: v.detach() for k, v in losses.items()}, audio_s

    def decode(
        self, crops: Crops, latents: Tensor, lost: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Decode crops with latents (items, frames, latent_dim) and `lost` (items, frames) bool.

        Returns samples (items, 640 x frames) and predicted octaves, see `Vocoder.decode`.

        The source has the pitch of the recording: a harmonic at a wrong place would only teach the
        filter to hide it.
        """
        with autocast(self.device):
            return self.vocoder.decode(latents, lost, crops.pitch_hz)

    def losses(
        self, crops: Crops, decoded: Tensor, octaves: Tensor, ignored: int = IGNORED_FRAMES
    ) -> dict[str, Tensor]:
        """Compare decoded crops with the recordings.

        Args:
            crops: the recordings.
            decoded: (items, 640 x frames) samples.
            octaves: (items, 4 x frames), the predicted pitch.
            ignored: frames at the beginning that do not count.

        Returns:
            "magnitude", "convergence" and "mel", see `spectral_losses`; "loudness", see
            `loudness_distance`; "pitch": mean error of the predicted pitch in octaves; with a
            recogniser "states": distance of the states of all layers of its encoder, on decoded and
            on recorded speech (after Johnson et al.'s perceptual loss, arXiv 1603.08155), and
            "words": divergence of its decoder's predictions, in nats a token of the text that it
            writes for the recording.
        """
        counted = slice(ignored * HOP_LENGTH, None)
        own, target = decoded[:, counted], crops.samples[:, counted]
        losses = spectral_losses(own, target)
        losses["loudness"] = loudness_distance(own, target).mean()
        if self.teacher is not None:
            losses |= self._recogniser_losses(self.teacher, own, target)
        error = (octaves - torch.log2(crops.pitch_hz / MIDDLE_PITCH_HZ)).abs() * crops.voiced
        hops = slice(ignored * HOPS_PER_FRAME, None)
        voiced = crops.voiced[:, hops].sum().clamp_min(1)
        return losses | {"pitch": error[:, hops].sum() / voiced}

    def _recogniser_losses(
        self, teacher: WhisperTeacher, decoded: Tensor, target: Tensor
    ) -> dict[str, Tensor]:
        prompt = english_prompt(teacher.whisper.generation_config)
        count = max(1, round(TOKENS_PER_S * target.shape[1] / SAMPLING_RATE_HZ))
        with autocast(self.device):
            with torch.no_grad():
                wanted = teacher.layers(teacher.stem(clip_mel_power(target)))
                tokens = teacher.transcribe(wanted[-1], prompt, count)
            own = teacher.layers(teacher.stem(clip_mel_power(decoded)))
            states = [relative_distance(*pair) for pair in zip(own, wanted, strict=True)]
            # The text counts to its end, which is predicted too.
            ended = tokens[:, len(prompt) - 1 : -1] == teacher.whisper.config.eos_token_id
            place = torch.arange(tokens.numel(), device=tokens.device).view_as(tokens)
            places = place[:, len(prompt) - 1 : -1][ended.cumsum(1) == 0]
            with torch.no_grad():
                reference = teacher.predictions(wanted[-1], tokens, places)
            predicted = teacher.predictions(own[-1], tokens, places)
        words = divergence(predicted, reference).mean()
        return {"states": torch.stack(states).mean(), "words": words}

    def latents(self, codes: Tensor, levels: Tensor) -> Tensor:
        """Sum up the first codes of each item.

        Args:
            codes: (num_quantizers, items, frames) int64.
            levels: (items,) int, codebooks that count.

        Returns:
            (items, frames, latent_dim) float32.
        """
        latents = torch.zeros(*codes.shape[1:], self.codebooks.shape[-1], device=codes.device)
        for level, (codebook, code) in enumerate(zip(self.codebooks, codes, strict=True)):
            latents = latents + codebook[code] * (levels > level)[:, None, None]
        return latents

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Measure the losses on dev, by number of codebooks."""
        measured: dict[str, float] = {}
        for n in (n for n in DEV_LEVELS if n <= len(self.codebooks)):
            totals: dict[str, float] = {}
            for clip in self.dev.clips():
                level = torch.full((1,), n, device=self.device)
                latents = self.latents(clip.codes, level)
                decoded, octaves = self.decode(clip, latents)
                for name, value in self.losses(clip, decoded, octaves, ignored=0).items():
                    totals[name] = totals.get(name, 0.0) + float(value)
            count = len(self.dev.frames)
            measured |= {f"{name}_{n}": round(v / count, 4) for name, v in totals.items()}
        return measured


def lost_pieces(rng: np.random.Generator, items: int, frames: int, chance: float) -> np.ndarray:
    """Draw (items, frames) bool, True in at most one lost piece of each item."""
    length = rng.integers(1, LONGEST_LOSS_FRAMES + 1, (items, 1)) * (
        rng.random((items, 1)) < chance
    )
    start = rng.integers(0, frames, (items, 1))
    place = np.arange(frames)
    return (place >= start) & (place < start + length)
