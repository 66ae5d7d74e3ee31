"""Training configuration: one TOML file, checked by pydantic."""

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vqasr.errors import TrainingError

LONGEST_UTTERANCE_S = 29.6


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid")


class DataConfig(_Table):
    """Where speech comes from, and how much of it makes a batch.

    Attributes:
        train, dev: parquet files, folders or hub ids with columns audio and text.
        noise: the same with column kind ("rir" for room impulse responses, else noise); every
            fifth noise is held out for testing.
        train_split, dev_split: of hub data sets; in folders, how the files' names begin.
        text_column: column of the transcripts.
        batch_s: seconds of audio in a batch, padding included.
        piece_s: a batch is computed in pieces of this size and the gradients are added up: what
            fits into memory. 0 takes whole batches on a GPU and 48 s on a CPU.
        max_utterance_s: longer utterances are cropped, and then have no transcript.
        dev_utterances: those that measure the divergence.
        transcribe: the first recogniser transcribes recordings without text, once.
        min_log_probability: mean log-probability of a token (nats) from which such a transcript is
            used.
        sure_log_probability: the same for CTC, which learns from letters alone.
    """

    train: list[str] = Field(min_length=1)
    dev: list[str] = Field(min_length=1)
    noise: list[str] = []
    train_split: str = "train"
    dev_split: str = "validation"
    text_column: str = "text"
    batch_s: float = Field(768.0, ge=3.2)
    piece_s: float = Field(0.0, ge=0.0)
    max_utterance_s: float = Field(16.2, ge=1.0, le=LONGEST_UTTERANCE_S)
    dev_utterances: int = Field(128, ge=1)
    transcribe: bool = True
    min_log_probability: float = -1.0
    sure_log_probability: float = -0.4


class AugmentConfig(_Table):
    """Probability of each change of an utterance.

    Speed (with the pitch, as on a tape), tone and gain change the encoder's input and the target.
    Reverberation, noise and band limits change the encoder's input; `shared` is the probability
    that they change the target too. `lost` is the probability that some chunks of 1 s are missing,
    `silence` that the recording goes on after the speech, `full_stop` that a text without
    punctuation ends with a full stop.
    """

    speed: float = Field(0.7, ge=0, le=1)
    tone: float = Field(0.5, ge=0, le=1)
    gain: float = Field(0.6, ge=0, le=1)
    reverberation: float = Field(0.3, ge=0, le=1)
    noise: float = Field(0.5, ge=0, le=1)
    band_limit: float = Field(0.2, ge=0, le=1)
    shared: float = Field(0.5, ge=0, le=1)
    lost: float = Field(0.12, ge=0, le=1)
    silence: float = Field(0.5, ge=0, le=1)
    full_stop: float = Field(0.5, ge=0, le=1)


NO_CHANGE = AugmentConfig(**dict.fromkeys(AugmentConfig.model_fields, 0.0))


class LossConfig(_Table):
    """Weights of the parts of the loss.

    Attributes:
        stem: distance to the recogniser's own front end.
        layers: mean distance to the recogniser's encoder layers, the last one counted twice.
        decoder: divergence from the decoder's predictions on the transcript.
        transcript: cross-entropy of the transcript.
        end: cross-entropy of a text's end, in steps without padding.
        reconstruction: log-mel error.
        commitment: latents to their codes.
        ctc: letters from the encoder's features, before the quantizer (dropped afterwards).
        scale: squared logarithms of the latents' variances over their targets.
        autoencoder_decoder: factor of `decoder` and `transcript` in the autoencoder stage.
    """

    stem: float = 0.25
    layers: float = 2.0
    decoder: float = 0.7
    transcript: float = 0.1
    end: float = 0.1
    reconstruction: float = 0.1
    commitment: float = 0.5
    ctc: float = 0.1
    scale: float = 0.05
    autoencoder_decoder: float = 0.3


class ScheduleConfig(_Table):
    """Steps and learning rate of the gradient stages.

    Attributes:
        autoencoder_steps: without a quantizer; the codebooks are fitted behind them.
        joint_steps: with everything.
        learning_rate: the highest, of Muon and AdamW.
        warmup_steps: linear, from the first step on.
        hold: fraction of all steps up to which the rate stays; then it falls linearly to 1 %.
        settle_steps: joint steps with the fastest moving averages of the codebooks.
        save_every: steps between resumable checkpoints.
        dev_every: steps between measurements on dev.
        log_every: steps between lines of the log.
    """

    autoencoder_steps: int = Field(150, ge=0)
    joint_steps: int = Field(3010, ge=0)
    learning_rate: float = Field(2e-3, gt=0)
    warmup_steps: int = Field(150, ge=0)
    hold: float = Field(0.4, ge=0, le=1)
    settle_steps: int = Field(400, ge=0)
    save_every: int = Field(200, ge=1)
    dev_every: int = Field(500, ge=1)
    log_every: int = Field(50, ge=1)


class RecogniserConfig(_Table):
    """A frozen recogniser that is distilled into the codes, and its adapter.

    Attributes:
        name: as `load_whisper` takes it; the adapter's folder is named after it.
        weight: of its losses; the first recogniser's is 1.
        share: of each batch that it reads.
        adapter: folder or name of an adapter to begin with; empty for random weights.
    """

    name: str
    weight: float = Field(1.0, gt=0)
    share: float = Field(1.0, gt=0, le=1)
    adapter: str = ""


class PriorConfig(_Table):
    """The code prior, trained on the codes of the finished codec; with 0 steps there is none.

    Attributes:
        steps, learning_rate, dropout: of its training.
        priced_steps: further steps, on codes that the prior has chosen by then, at different prices
            of a bit (`CodeChoice`): what is chosen is more probable than what is nearest.
        passes: over the training data; the first as they are, the others changed as in [augment].
        batch_chunks: chunks of 250 frames in a batch.
        levels_per_step: codebooks whose codes are predicted in a step.
        num_modelled, width, head_size, dilations: sizes, see CodePriorConfig.
        dev_utterances: those that measure it.
        save_every: steps between resumable checkpoints.
    """

    steps: int = Field(0, ge=0)
    priced_steps: int = Field(0, ge=0)
    learning_rate: float = Field(2e-3, gt=0)
    dropout: float = Field(0.15, ge=0, lt=1)
    passes: int = Field(3, ge=1)
    batch_chunks: int = Field(32, ge=1)
    levels_per_step: int = Field(3, ge=1)
    num_modelled: int = Field(4, ge=1)
    width: int = Field(176, ge=1)
    head_size: int = Field(144, ge=1)
    dilations: list[int] = [1, 2, 4, 8, 16, 32]
    dev_utterances: int = Field(1000, ge=1)
    save_every: int = Field(250, ge=1)


class TrainConfig(_Table):
    """Everything a training run depends on.

    Attributes:
        output_dir: checkpoints, logs and the finished codec, adapters and prior.
        start_from: name or folder of a finished codec to begin with; empty for random weights.
        frozen_codec: that codec stays as it is, and only adapters are trained.
        optimizer: "muon" (for matrices, AdamW for the rest) or "adamw".
        seed: of weights, data, augmentation and codebook draws.
        threads: CPU threads; 0 leaves torch's choice.
        levels: relative frequency of using n codebooks, as {"n": frequency}; "0" is unquantized.
        codec, adapter: overrides of VQCodecConfig's and CodeEmbedderConfig's defaults.
    """

    output_dir: str
    data: DataConfig
    recognisers: list[RecogniserConfig] = Field([RecogniserConfig(name="tiny.en")], min_length=1)
    start_from: str = ""
    frozen_codec: bool = False
    optimizer: Literal["muon", "adamw"] = "muon"
    seed: int = Field(0, ge=0)
    threads: int = Field(0, ge=0)
    levels: dict[int, float] = {0: 0.5, 1: 3, 2: 4, 3: 3, 4: 9, 6: 1, 8: 2}
    schedule: ScheduleConfig = ScheduleConfig()
    augment: AugmentConfig = AugmentConfig()
    loss: LossConfig = LossConfig()
    prior: PriorConfig = PriorConfig()
    codec: dict[str, Any] = {}
    adapter: dict[str, Any] = {}

    @model_validator(mode="after")
    def _check(self) -> "TrainConfig":
        if self.start_from and self.schedule.autoencoder_steps:
            raise ValueError(
                f"start_from = {self.start_from!r} begins with finished codebooks: [schedule] "
                "autoencoder_steps must be 0"
            )
        if self.frozen_codec and not self.start_from:
            raise ValueError("frozen_codec = true needs the codec's name in start_from")
        if self.start_from and self.codec:
            raise ValueError(
                f"[codec] has {sorted(self.codec)}, but the sizes are those of {self.start_from!r}"
            )
        if not self.levels or min(self.levels) < 0 or min(self.levels.values()) <= 0:
            raise ValueError(
                f"[levels] has {self.levels}; keys are numbers of codebooks (0 for none), values "
                "frequencies above 0"
            )
        return self


def load_train_config(path: str | Path) -> TrainConfig:
    """Read a TOML file; paths in it are relative to the folder that the command runs in.

    Raises:
        TrainingError: unreadable, an unknown or missing key, or a value that is not allowed.
    """
    try:
        return TrainConfig(**tomllib.loads(Path(path).read_text()))
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']} (is {_short(e['input'])})"
            for e in error.errors()
        )
        raise TrainingError(f"{path}: {wrong}. See recipes/train_codec/train.toml.") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TrainingError(f"{path}: cannot be read as TOML ({error}).") from error


def config_hash(config: TrainConfig) -> str:
    """Name what codec and adapters depend on: neither place nor speed, nor the prior after them."""
    values = config.model_dump(mode="json", exclude={"output_dir", "threads", "prior"})
    for table, name in (("data", "piece_s"), ("schedule", "save_every"), ("schedule", "log_every")):
        del values[table][name]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
