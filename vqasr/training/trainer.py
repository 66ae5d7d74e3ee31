"""One training, from random weights to everything that ships; resumable.

transformers' `Trainer` is not used: its checkpoints are pickles, it trains one model on batches of
a fixed number of items, and here each stage trains other parts on batches of a fixed duration.
"""

import copy
import logging
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vqasr.adapters.adapter import CARD_FILE, CodesAdapter
from vqasr.adapters.embedder import fill_undrawn_levels
from vqasr.adapters.original_whisper import load_whisper
from vqasr.codec.feature_extraction import VQCodecFeatureExtractor
from vqasr.data.speech import load_speech
from vqasr.grid import SAMPLING_RATE_HZ
from vqasr.training.augment import Augment
from vqasr.training.batches import Batch, Batches
from vqasr.training.checkpoint import RunFolder, StepLog
from vqasr.training.config import TrainConfig, config_hash
from vqasr.training.dev import divergences
from vqasr.training.losses import (
    RecogniserLoss,
    letters_loss,
    loss_weights,
    reconstruction_error,
    scale_penalty,
)
from vqasr.training.optimizer import make_optimizer, set_rate
from vqasr.training.parallel import Processes
from vqasr.training.precision import autocast
from vqasr.training.prior_trainer import PriorTrainer, price_points
from vqasr.training.recordings import Recordings
from vqasr.training.rotation import fit_codebooks
from vqasr.training.speech_head import fit_speech_head
from vqasr.training.student import Student
from vqasr.training.texts import LetterTable, TokenTable
from vqasr.training.transcripts import transcribe_missing
from vqasr.training.windows import Windows

CPU_PIECE_S = 48.0
# Moving averages of the codebooks: while they settle, afterwards, and towards the end.
DECAYS = (0.9, 0.97, 0.99)
LAST_DECAY_FROM = 0.6
MOST_PIECES = 10_000  # of a batch
RATE_CLIPS = 100  # utterances of dev on which rates are measured

logger = logging.getLogger("vqasr.train")


class Trainer:
    """Train codec, adapters, speech heads and prior as configured.

    Raises:
        TrainingError: the configuration cannot be used.
    """

    def __init__(self, config: TrainConfig):
        self.config, self.folder = config, Path(config.output_dir)
        if config.threads:
            torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.processes = Processes()
        self.device = self.processes.device
        whispers = [load_whisper(entry.name) for entry in config.recognisers]
        self.student = Student(config, whispers).to(self.device)
        self.recognisers = [
            RecogniserLoss(*parts, self.device)
            for parts in zip(config.recognisers, whispers, self.student.adapters(), strict=True)
        ]
        self._load_data()
        self.run_folder = RunFolder(
            self.folder, "student", config_hash(config), self.processes.is_main
        )

    def _load_data(self) -> None:
        data, device = self.config.data, self.device
        self.dev = self.decoded(data.dev, data.dev_split)
        self.noise = load_speech(data.noise, "train") if data.noise else None
        self._augment = Augment(self.noise, device)
        whole = data.batch_s / self.processes.count
        if device.type != "cuda":
            whole = min(CPU_PIECE_S, whole)
        self._piece_s = data.piece_s or whole
        self.dev_batches = self.batches_of(self.dev.spread(data.dev_utterances))
        self.windows = None
        if data.window_shards:
            self.windows = Windows(data, self.config.seed, self.config.schedule.total_steps)
        else:
            self._use(self.decoded(data.train, data.train_split))

    def decoded(self, source: list[str], split: str) -> Recordings:
        """Decode recordings into the memory of the device, cropped as configured."""
        data = self.config.data
        rows = load_speech(source, split)
        return Recordings.from_rows(rows, self.device, data.max_utterance_s, data.text_column)

    def batches_of(self, recordings: Recordings) -> Batches:
        """Return endless batches of some recordings, augmented as configured."""
        return Batches(recordings, self._augment, self.config, self._piece_s)

    def _use(self, recordings: Recordings) -> None:
        """Train on these recordings from now on."""
        self.train = recordings
        self.batches = self.batches_of(recordings)
        hours = recordings.lengths.sum() / SAMPLING_RATE_HZ / 3600
        count = len(recordings)
        logger.info("%.2f h of speech in %d recordings, on %s", hours, count, self.device)

    def _enter_window(self, step: int) -> None:
        """Load the recordings of a step, where the data come in windows."""
        if self.windows is not None:
            window = self.windows.load(self.windows.number(step))
            self.train = self.batches = None  # type: ignore[assignment]  # room for the next
            self._use(window.to(self.device))
        self.tokenise()

    def run(self) -> None:
        """Train the steps that are missing; an interrupted run resumes at its last checkpoint.

        Raises:
            TrainingError: the folder holds a run of another configuration, or a loss is not finite.
        """
        first = self.run_folder.first_step()
        if first == self.config.schedule.total_steps and self._is_finished():
            logger.info("%s is finished: nothing to train", self.folder)
            return
        self._enter_window(min(first, max(0, self.config.schedule.total_steps - 1)))
        self._train_steps(first)
        if not self.processes.is_main:
            return
        self.student.to("cpu").eval()  # codes are defined by the CPU's float32
        self.student.copy_codebooks()
        if not self.config.frozen_codec:
            self._save_codec()
        self._finish_adapters()
        if self.config.prior.steps and not self.config.frozen_codec:
            self._finish_prior()
        self._compare_with_start()

    def _compare_with_start(self) -> None:
        """Log whether dev became better, if the adapters began with trained weights."""
        rows = {row["step"]: row for row in self.run_folder.logged("dev")}  # the last of each step
        first, last = rows.get(0), rows.get(self.config.schedule.total_steps)
        if first is None or last is None:
            return
        for recogniser in (r.config for r in self.recognisers if r.config.adapter):
            before, after = (row[recogniser.short_name] for row in (first, last))
            levels = sorted((name for name in before if name.isdigit()), key=int)
            change = "divergence on dev in nats: " + ", ".join(
                f"{before[n]} to {after[n]} with {n}" for n in levels
            )
            if sum(after[n] for n in levels) < sum(before[n] for n in levels):
                logger.info("%s: %s codebooks: better", recogniser.name, change)
            else:
                logger.warning(
                    "%s: %s codebooks: not better than the adapter it began with (%s). More "
                    "recordings or fewer steps may help.",
                    recogniser.name, change, recogniser.adapter,
                )  # fmt: skip

    def _is_finished(self) -> bool:
        """Tell whether all adapters are written; the settings of a prior may have changed."""
        names = [recogniser.short_name for recogniser in self.config.recognisers]
        cards = [self.folder / f"adapter-{name}" / CARD_FILE for name in names]
        return self.config.frozen_codec and all(card.is_file() for card in cards)

    def tokenise(self) -> None:
        """Prepare tokens and letters of all transcripts; the recogniser makes those missing."""
        data, texts, sure = self.config.data, list(self.train.texts), list(self.train.texts)
        if data.transcribe:
            whisper = self.recognisers[0].whisper
            with self.processes.main_first():  # the others read its file
                made = transcribe_missing(self.train, whisper, self.device, self.folder)
            for i, (text, score) in made.items():
                texts[i] = text if score >= data.min_log_probability else ""
                sure[i] = texts[i] if score >= data.sure_log_probability else ""
        self.tables = [TokenTable(r.whisper, texts, self.device) for r in self.recognisers]
        self.sure_texts = sure
        self.letters = LetterTable(sure, self.device)

    def _train_steps(self, first: int) -> None:
        """Run the gradient stages, from step `first` on."""
        schedule, optimizer = self.config.schedule, self._optimizer()
        total = schedule.total_steps
        if first:
            extra = self.run_folder.load(self.student, optimizer)
            self.student.codec.quantizer.load_training_state(extra)
        elif self.config.start_from and total:
            self.evaluate(0)
        self.processes.same(self.student)
        with StepLog(self.run_folder, first, total, schedule.log_every, schedule.save_every) as log:
            for step in range(first, total):
                if step != first and step % self.config.data.window_steps == 0 and self.windows:
                    self._enter_window(step)
                if step == schedule.autoencoder_steps and not self.config.start_from:
                    frames = fit_codebooks(self.student, self.batches, self.config.seed)
                    self.processes.same(self.student)
                    self.run_folder.log({"stage": "codebooks", "frames": frames})
                losses, audio_s = self.update(optimizer, step)
                done = step + 1
                if log.add(schedule.stage(step), step, losses, audio_s):
                    self.save(done, optimizer)
                if done % schedule.dev_every == 0 or done == total:
                    self.evaluate(done)

    def _optimizer(self) -> Optimizer:
        if self.config.frozen_codec:
            self.student.codec.requires_grad_(False)
            self.student.ctc_head.requires_grad_(False)
        parameters = [p for p in self.student.parameters() if p.requires_grad]
        return make_optimizer(self.config.optimizer, parameters, self.config.schedule.learning_rate)

    def update(self, optimizer: Optimizer, step: int) -> tuple[dict[str, Tensor], float]:
        """Make one step; return the parts of the loss and the seconds of audio."""
        schedule = self.config.schedule
        self.student.train()
        set_rate(optimizer, schedule.rate(step))
        optimizer.zero_grad()
        joint = schedule.stage(step) == "joint"
        weights = loss_weights(self.config, autoencoder=not joint)
        means: dict[str, Tensor] = {}
        audio_s = 0.0
        own, count = self.processes.number, self.processes.count
        for number, piece in self.batches.share(step, own, count):
            # Dead codes are revived at random frames: the draw must depend on the piece alone.
            torch.manual_seed((self.config.seed * 7_919 + step) * MOST_PIECES + number)
            with autocast(self.device):
                parts = self.losses(piece, step)
            terms = [weights.get(name, 0.0) * part for name, part in parts.items()]
            (piece.share * torch.stack(terms).sum()).backward()
            for name, part in parts.items():
                means[name] = piece.share * part.detach() + means.get(name, 0.0)
            audio_s += piece.audio.numel() / SAMPLING_RATE_HZ
        learned = [p for group in optimizer.param_groups for p in group["params"]]
        self.processes.sum_gradients(learned)
        self.processes.sum(means[name] for name in sorted(means))
        nn.utils.clip_grad_norm_(learned, 1.0)
        optimizer.step()
        if joint and not self.config.frozen_codec:
            settled = schedule.autoencoder_steps + schedule.settle_steps
            if step < settled and not self.config.start_from:
                decay = DECAYS[0]
            else:
                decay = DECAYS[1 if step < LAST_DECAY_FROM * schedule.total_steps else 2]
            statistics = self.student.codec.quantizer.statistics()
            if statistics is not None:
                counts, totals, candidates = statistics
                self.processes.sum([counts, totals])
                last = (self.batches.count_pieces(step, count) - 1) % count
                self.processes.from_process(last, candidates)
            self.student.codec.quantizer.update_codebooks(decay)
        return means, self.processes.total(audio_s)

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Compute all parts of the loss of a piece of a batch; "NAME:part" for a recogniser.

        Odd steps of the joint stage read without padding, with closing frames; even ones and the
        autoencoder stage with silence behind the utterances.
        """
        codec = self.student.codec
        autoencoder = self.config.schedule.stage(step) == "autoencoder"
        closed = step % 2 == 1 and not autoencoder
        mask = batch.frame_mask(batch.audio_lengths if closed else batch.lengths)
        audio = batch.audio if closed else batch.audio * batch.sample_mask()
        codec.quantizer.train(not autoencoder and not self.config.frozen_codec)
        latents, letters = self.student.encode(audio)
        levels = torch.zeros_like(batch.levels) if autoencoder else batch.levels
        refined = batch.refined if codec.config.variable_depth else None
        coded = codec.quantizer(latents, levels, mask, refined)
        parts: dict[str, Tensor] = {}
        if not self.config.frozen_codec:
            mel = codec.mel_decoder(coded.quantized)
            texts, text_lengths = self.letters(batch.rows)
            frames = -(-batch.lengths // codec.config.hop_length)
            parts = {
                "reconstruction": reconstruction_error(mel, batch.power, mask),
                "scale": scale_penalty(latents, mask, codec.quantizer.base_dim),
                "commitment": coded.commitment,
                "ctc": letters_loss(letters, frames, texts, text_lengths),
            }
            parts |= {f"perplexity_{i}": value for i, value in enumerate(coded.perplexity)}
        for recogniser, table in zip(self.recognisers, self.tables, strict=True):
            losses = recogniser(batch, table, coded, mask, levels, closed, step)
            name = recogniser.config.short_name
            parts |= {f"{name}:{part}": value for part, value in losses.items()}
            if autoencoder:
                break  # the other recognisers join with the codebooks
        return parts

    def evaluate(self, step: int) -> None:
        """Log the divergence on dev."""
        if not self.processes.is_main:
            return
        measured = divergences(self.student, self.recognisers, self.dev_batches)
        self.run_folder.log({"stage": "dev", "step": step, **measured})
        for name, values in measured.items():
            levels = {n: value for n, value in values.items() if n.isdigit()}
            logger.info(
                "step %d, %s on dev: divergence %s nats with %s codebooks (0: unquantized)",
                step, name,
                *(" / ".join(map(str, part)) for part in (levels.values(), levels)),
            )  # fmt: skip

    @torch.no_grad()
    def _finish_adapters(self) -> None:
        """Write the adapters; fit their speech heads on the trained codes and write them again.

        A head that knows noises is kept where the codes are the same and there is no noise to fit
        it to: without noises it would take them for speech.
        """
        for recogniser in self.recognisers:
            fill_undrawn_levels(recogniser.embedder, list(self.config.levels))
            if not self.config.frozen_codec:  # the heads take minutes
                self._save_adapter(recogniser)
        for recogniser in self.recognisers:
            if self.config.frozen_codec and recogniser.config.adapter and self.noise is None:
                folder = self._save_adapter(recogniser)
                logger.info("the adapter is in %s, with the speech head that it had", folder)
                continue
            logger.info("fitting the speech head of the adapter for %s", recogniser.config.name)
            accuracy = fit_speech_head(
                self.student.codec, recogniser.embedder, self.batches, self.noise,
                self.config.speech_head, self.config.seed,
            )  # fmt: skip
            name = recogniser.config.short_name
            self.run_folder.log({"stage": "speech_head", "adapter": name, "accuracy": accuracy})
            logger.info("the adapter is in %s", self._save_adapter(recogniser))

    def _save_adapter(self, recogniser: RecogniserLoss) -> Path:
        folder = self.folder / f"adapter-{recogniser.config.short_name}"
        base, codec = recogniser.whisper.fingerprint(), self.student.codec.fingerprint()
        adapter = CodesAdapter(recogniser.embedder, recogniser.config.name, base, codec)
        adapter.save_pretrained(folder, int8=True)
        return folder

    def _save_codec(self) -> None:
        folder = self.folder / "codec"
        copy.deepcopy(self.student.codec).half().save_pretrained(folder)
        VQCodecFeatureExtractor().save_pretrained(folder)
        logger.info("the codec is in %s", folder)

    def _finish_prior(self) -> None:
        """Train the codec's prior and measure its rates."""
        codec = self.student.codec
        prior = PriorTrainer(self.config, codec, self.batches, self.dev).run()
        prior.save_pretrained(self.folder / "prior")
        logger.info("the code prior is in %s", self.folder / "prior")
        if codec.config.variable_depth:
            rows = range(0, len(self.dev), 1 + len(self.dev) // RATE_CLIPS)
            points = price_points(codec, prior, [self.dev.samples(i) for i in rows])
            codec.config.price_points = points
            codec.config.save_pretrained(self.folder / "codec")
            self.run_folder.log({"stage": "rates", "points": points})

    def save(self, step: int, optimizer: Optimizer) -> None:
        """Write a checkpoint after `step` steps."""
        extra = self.student.codec.quantizer.training_state()
        self.run_folder.save(step, self.student, optimizer, extra)
