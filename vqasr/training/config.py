"""Training configuration: one TOML file, checked by pydantic."""

import hashlib
import json
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vqasr.errors import TrainingError

FINAL_LEARNING_RATE = 0.01  # as a fraction of the highest

Probability = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
CountOrZero = Annotated[int, Field(ge=0)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid")


Config = TypeVar("Config", bound=_Table)


class DataConfig(_Table):
    """Speech and noise, and the size of the batches."""

    train: list[str] = Field(min_length=1)  # parquet files, folders or hub ids: audio and text
    dev: list[str] = Field(min_length=1)  # the same
    # The same with column kind: "rir" for room impulse responses, others are noise. Every fifth
    # noise is held out for testing.
    noise: list[str] = []
    train_split: str = "train"  # of hub data sets; in folders, the beginning of the files' names
    dev_split: str = "validation"
    text_column: str = "text"  # of the transcripts
    batch_s: float = Field(768.0, ge=3.2)  # seconds of audio in a batch, padding included
    # A batch is computed in pieces of this size whose gradients are added up, to fit into memory.
    # 0 takes whole batches on a GPU and 48 s on a CPU.
    piece_s: float = Field(0.0, ge=0.0)
    # Longer utterances are cropped and lose their transcript.
    max_utterance_s: float = Field(16.2, ge=1.0, le=29.6)
    dev_utterances: Count = 128  # to measure the divergence with
    transcribe: bool = True  # recordings without text, once, by the first recogniser
    # Least mean log-probability of a token (nats) in such transcripts, for the decoders and for
    # CTC, which learns from letters alone.
    min_log_probability: float = -1.0
    sure_log_probability: float = -0.4
    # Data that do not fit into memory: this many shards at a time, each of `shard_rows` rows of a
    # parquet file or of a tar file, for `window_steps` steps; 0 keeps all data in memory. Speech
    # heads and prior are fitted on the last window. Needs transcribe = false: `vqasr transcribe
    # --data` makes the texts before.
    window_shards: CountOrZero = 0
    shard_rows: Count = 500
    window_steps: Count = 500

    @model_validator(mode="after")
    def _check(self) -> "DataConfig":
        if self.window_shards and self.transcribe:
            raise ValueError(
                "window_shards needs transcribe = false. Transcribe recordings without text before "
                "(vqasr transcribe --data), and name their column in text_column"
            )
        return self


class AugmentConfig(_Table):
    """Probability of each change of an utterance.

    Speed (with the pitch, as on a tape), tone and gain change the encoder's input and the target.
    Reverberation, noise and band limits change the encoder's input alone, or the target too.
    """

    speed: Probability = 0.7
    tone: Probability = 0.5
    gain: Probability = 0.6
    reverberation: Probability = 0.3
    noise: Probability = 0.5
    band_limit: Probability = 0.2
    shared: Probability = 0.5  # the target gets reverberation, noise and band limits too
    lost: Probability = 0.12  # some chunks of 1 s are missing
    silence: Probability = 0.5  # the recording continues behind the speech
    full_stop: Probability = 0.5  # a text without punctuation ends with a full stop


NO_CHANGE = AugmentConfig(**dict.fromkeys(AugmentConfig.model_fields, 0.0))


class LossConfig(_Table):
    """Weights of the parts of the loss."""

    stem: float = 0.25  # distance to the recogniser's own front end
    layers: float = 2.0  # mean distance to its encoder layers, the last one counted twice
    decoder: float = 0.7  # divergence from its decoder's predictions on the transcript
    transcript: float = 0.1  # cross-entropy of the transcript
    end: float = 0.1  # cross-entropy of a text's end, in steps without padding
    reconstruction: float = 0.1  # log-mel error
    commitment: float = 0.5  # distance of latents to their codes
    ctc: float = 0.1  # of letters, from the encoder's features before the quantizer
    scale: float = 0.05  # squared logarithms of the latents' variances over their targets
    autoencoder_decoder: float = 0.3  # factor of decoder and transcript in the autoencoder stage


class Schedule(_Table):
    """Learning rate, checkpoints and log of a training of `total_steps` steps."""

    learning_rate: float = Field(2e-3, gt=0)  # the highest, of Muon and AdamW
    warmup_steps: CountOrZero = 150  # linear, from the first step on
    hold: Probability = 0.4  # fraction of all steps until the rate falls linearly to 1 %
    save_every: Count = 200  # steps between resumable checkpoints
    dev_every: Count = 500  # steps between measurements on dev
    log_every: Count = 50  # steps between lines of the log

    @property
    def total_steps(self) -> int:
        raise NotImplementedError

    def rate(self, step: int) -> float:
        """Return the learning rate: linear warm-up, constant, then linear down to 1 %.

        Not transformers' `get_wsd_schedule`: a function of the step has no state to save.
        """
        done = step / max(1, self.total_steps)
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        fall = 1.0 if done < self.hold else (1.0 - done) / (1.0 - self.hold)
        return self.learning_rate * warm * max(FINAL_LEARNING_RATE, fall)


class ScheduleConfig(Schedule):
    """Steps of the gradient stages."""

    autoencoder_steps: CountOrZero = 150  # without a quantizer; the codebooks are fitted afterwards
    joint_steps: CountOrZero = 3010  # of all modules together
    settle_steps: CountOrZero = 400  # joint steps with the fastest moving averages of codebooks

    @property
    def total_steps(self) -> int:
        return self.autoencoder_steps + self.joint_steps

    def stage(self, step: int) -> Literal["autoencoder", "joint"]:
        """Return the stage of a step."""
        return "autoencoder" if step < self.autoencoder_steps else "joint"


class VocoderSchedule(Schedule):
    """Steps of the vocoder's training."""

    steps: CountOrZero = 20_000

    @property
    def total_steps(self) -> int:
        return self.steps


class RecogniserConfig(_Table):
    """A frozen recogniser that is distilled into the codes, and its adapter."""

    name: str  # as `load_whisper` takes it
    weight: float = Field(1.0, gt=0)  # of its losses; 1 for the first recogniser
    share: float = Field(1.0, gt=0, le=1)  # of each batch that it is trained with
    adapter: str = ""  # folder or name of an adapter to begin with; empty for random weights

    @property
    def short_name(self) -> str:
        """Name of its losses and of the adapter's folder: "base.en" of "openai/whisper-base.en"."""
        return Path(self.name).name.removeprefix("whisper-") or "whisper"


class PriorConfig(_Table):
    """The code prior, trained on the codes of the finished codec."""

    steps: CountOrZero = 0  # 0 for no prior
    # Further steps, on codes that the prior has chosen by then, at different prices of a bit
    # (`CodeChoice`): chosen codes are more probable than the nearest ones.
    priced_steps: CountOrZero = 0
    learning_rate: float = Field(2e-3, gt=0)
    dropout: float = Field(0.15, ge=0, lt=1)
    passes: Count = 3  # over the training data; all but the first are augmented
    batch_chunks: Count = 32  # chunks of 250 frames in a batch
    levels_per_step: Count = 3  # codebooks whose codes are predicted in a step
    num_modelled: Count = 4  # sizes, see `CodePriorConfig`
    width: Count = 176
    head_size: Count = 144
    dilations: list[int] = [1, 2, 4, 8, 16, 32]
    dev_utterances: Count = 1000  # to measure it with
    save_every: Count = 250  # steps between resumable checkpoints


class SpeechHeadConfig(_Table):
    """What the adapters' speech heads are fitted to, besides the noise of the data."""

    pieces: Count = 120  # of 48 s of the training data
    machine_sounds: CountOrZero = 560  # of 3 s, made by rules


class TrainConfig(_Table):
    """Everything a training run depends on."""

    output_dir: str  # of checkpoints, logs and the finished codec, adapters and prior
    data: DataConfig
    recognisers: list[RecogniserConfig] = Field([RecogniserConfig(name="tiny.en")], min_length=1)
    start_from: str = ""  # name or folder of a finished codec; empty for random weights
    frozen_codec: bool = False  # train adapters alone, for that codec
    optimizer: Literal["muon", "adamw"] = "muon"  # Muon for matrices and AdamW for the rest
    seed: CountOrZero = 0  # of weights, data, augmentation and codebook draws
    threads: CountOrZero = 0  # CPU threads; 0 leaves torch's choice
    # Relative frequency of using n codebooks, as {"n": frequency}; "0" is unquantized.
    levels: dict[int, float] = {0: 0.5, 1: 3, 2: 4, 3: 3, 4: 9, 6: 1, 8: 2}
    schedule: ScheduleConfig = ScheduleConfig()
    augment: AugmentConfig = AugmentConfig()
    loss: LossConfig = LossConfig()
    prior: PriorConfig = PriorConfig()
    speech_head: SpeechHeadConfig = SpeechHeadConfig()
    codec: dict[str, Any] = {}  # instead of `VQCodecConfig`'s defaults
    adapter: dict[str, Any] = {}  # instead of `CodeEmbedderConfig`'s defaults

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
        names = [recogniser.short_name for recogniser in self.recognisers]
        if len(set(names)) < len(names):
            raise ValueError(
                f"[[recognisers]] gives two adapters the same folder: {names}; rename a "
                "recogniser's folder or train the adapters in two runs"
            )
        return self


class VocoderLossConfig(_Table):
    """Weights of the parts of the vocoder's loss, see `VocoderTrainer.losses`."""

    magnitude: float = 1.0
    convergence: float = 0.5
    mel: float = 1.0
    pitch: float = 2.0  # mean error in octaves of voiced 10 ms
    loudness: float = 0.5  # of Bark bands, as PESQ compares it
    # If there is a recogniser: distance of its encoder's states, divergence of its predictions.
    states: float = 1.0
    words: float = 0.7
    # With an [adversary]: its judgement, and distances of its features, see `Adversary.losses`.
    adversarial: float = 0.05
    features: float = 0.5


class AdversaryConfig(_Table):
    """Discriminators that are trained beside the vocoder, see `Adversary`."""

    from_step: CountOrZero = 0  # before it, distances alone
    learning_rate: float = Field(2e-4, gt=0)  # of the discriminators, constant


class VocoderTrainConfig(_Table):
    """Everything the training of a vocoder depends on."""

    output_dir: str  # of checkpoints, log and the finished vocoder
    codec: str = "vqasr-base"  # name or folder; it stays unchanged
    start_from: str = ""  # name or folder of a vocoder to train further; empty for random weights
    # Whisper, as `load_whisper` takes it, whose encoder compares decoded with recorded speech.
    recogniser: str = ""  # empty for none
    train: list[str] = Field(min_length=1)  # parquet files, folders or hub ids with clean speech
    dev: list[str] = Field(min_length=1)  # the same
    train_split: str = "train"
    dev_split: str = "validation"
    dev_utterances: Count = 32
    seed: CountOrZero = 0  # of weights and draws
    threads: CountOrZero = 0  # CPU threads; 0 leaves torch's choice
    optimizer: Literal["muon", "adamw"] = "adamw"
    batch_crops: Count = 16  # in a batch
    crop_frames: Count = 50  # of a crop, 40 ms each
    lost: Probability = 0.1  # share of the crops with a lost piece of up to 1 s
    # Relative frequency of using n codebooks, as {"n": frequency}.
    levels: dict[Count, Annotated[float, Field(gt=0)]] = Field(
        {1: 1, 2: 3, 3: 2, 4: 4, 8: 2}, min_length=1
    )
    schedule: VocoderSchedule = VocoderSchedule()
    loss: VocoderLossConfig = VocoderLossConfig()
    adversary: AdversaryConfig | None = None  # None for distances alone
    vocoder: dict[str, Any]  # instead of `VocoderConfig`'s defaults

    @model_validator(mode="after")
    def _check(self) -> "VocoderTrainConfig":
        if {"states", "words"} & self.loss.model_fields_set and not self.recogniser:
            raise ValueError(
                '[loss] states and words need a recogniser, as in recogniser = "tiny.en"'
            )
        if {"adversarial", "features"} & self.loss.model_fields_set and self.adversary is None:
            raise ValueError("[loss] adversarial and features need a table [adversary]")
        return self


def load_train_config(path: str | Path) -> TrainConfig:
    """Read a TOML file for codec and adapters; paths in it are relative to the working directory.

    Raises:
        TrainingError: unreadable, an unknown or missing key, or a value that is not allowed.
    """
    return _checked(TrainConfig, path, _read(path))


def load_any_config(path: str | Path) -> TrainConfig | VocoderTrainConfig:
    """Read a TOML file as `load_train_config` does, or one with a table [vocoder]."""
    values = _read(path)
    if "vocoder" in values:
        return _checked(VocoderTrainConfig, path, values)
    return _checked(TrainConfig, path, values)


def _read(path: str | Path) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text())
    except OSError as error:
        raise TrainingError(f"{path}: {error.strerror}.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TrainingError(f"{path}: cannot be read as TOML ({error}).") from error


def _checked(kind: type[Config], path: str | Path, values: dict[str, Any]) -> Config:
    try:
        return kind(**values)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'the file'}: {_reason(e)} (is {e['input']!r:.60})"
            for e in error.errors()
        )
        raise TrainingError(f"{path}: {wrong}. See the files in recipes/.") from error


def _reason(error: Any) -> str:
    """Return pydantic's message; of an unknown setting, the known one that is meant."""
    if error["type"] != "extra_forbidden":
        return str(error["msg"])
    tables = [_Table]
    for table in tables:  # which grows
        tables += table.__subclasses__()
    known = {name for table in tables for name in table.model_fields}
    name = str(error["loc"][-1])
    if name in known:
        return "belongs to another table"
    near = get_close_matches(name, known, 1)
    return "unknown setting" + (f", did you mean {near[0]}?" if near else "")


def check_keys(table: str, values: dict[str, Any], kind: type) -> None:
    """Compare the keys of a table with the sizes of a transformers configuration.

    Raises:
        TrainingError: there are others, which transformers would keep without using them.
    """
    allowed = set(kind.__annotations__)
    if unknown := sorted(set(values) - allowed):
        raise TrainingError(f"[{table}] has {unknown}; allowed are {sorted(allowed)}.")


def config_hash(config: TrainConfig | VocoderTrainConfig) -> str:
    """Hash the values that checkpoints depend on: no places, no speed, nothing fitted later."""
    later = {"prior", "speech_head"}
    values = config.model_dump(mode="json", exclude={"output_dir", "threads"} | later)
    places = (("data", "piece_s"), ("schedule", "save_every"), ("schedule", "log_every"))
    for table, name in places:
        values.get(table, {}).pop(name, None)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]
