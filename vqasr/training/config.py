"""Training configuration: one TOML file."""

import dataclasses
import hashlib
import json
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_origin

from vqasr.errors import TrainingError

LONGEST_UTTERANCE_S = 29.6
OPTIMIZERS = ("adamw", "muon")


@dataclass
class DataConfig:
    """Where speech comes from.

    Attributes:
        train, dev: parquet files, folders or hub ids with columns audio and text.
        noise: the same with column kind ("rir" for room impulse responses, else noise); every
            fifth noise is held out for testing. Empty for no augmentation with either.
        batch_s: seconds of audio in a batch.
        max_utterance_s: longer utterances are cropped (and then have no transcript); at most 29.6.
        dev_utterances: size of the slice that judges each stage.
        train_split, dev_split: of hub data sets; in folders, how the files' names begin.
        text_column: column of the transcripts.
    """

    train: list[str]
    dev: list[str]
    noise: list[str] = field(default_factory=list)
    batch_s: float = 48.0
    max_utterance_s: float = 16.0
    dev_utterances: int = 60
    train_split: str = "train"
    dev_split: str = "validation"
    text_column: str = "text"


@dataclass
class AugmentConfig:
    """Probability of each change of the encoder's input.

    The target stays clean; speed (with the pitch, as on a tape), tone and gain change it too.
    `shared` is the probability that noise, reverberation and bands change it as well: the codes
    then carry what the recogniser hears in a bad recording, instead of cleaning it up.
    """

    speed: float = 0.0
    tone: float = 0.0
    gain: float = 0.5
    noise: float = 0.25
    reverberation: float = 0.1
    band_limit: float = 0.15
    shared: float = 0.0


@dataclass
class StageConfig:
    """One stage's length and step size."""

    steps: int
    learning_rate: float = 1e-3
    warmup_steps: int = 100


@dataclass
class PriorTrainConfig:
    """The code prior, trained last; with 0 steps there is none.

    Attributes:
        steps, learning_rate, dropout: of its training.
        passes: over the training data; the first as they are, the others changed as in [augment]
            and in speed.
        batch_chunks: chunks of 250 frames in a batch.
        levels_per_step: codebooks whose codes are predicted in a step.
        num_modelled, width, head_size, dilations: sizes, see CodePriorConfig.
        dev_utterances: that judge it.
        save_every: steps between resumable checkpoints.
        priced_steps: further steps, on codes that the prior has chosen by then, at different prices
            of a bit (`CodeChoice`): what is chosen is more probable than what is nearest.
    """

    steps: int = 0
    learning_rate: float = 2e-3
    dropout: float = 0.15
    passes: int = 3
    batch_chunks: int = 32
    levels_per_step: int = 3
    num_modelled: int = 4
    width: int = 176
    head_size: int = 144
    dilations: list[int] = field(default_factory=lambda: [1, 2, 4, 8, 16, 32])
    dev_utterances: int = 1000
    save_every: int = 250
    priced_steps: int = 0


@dataclass
class LossConfig:
    """Weights of the joint stage.

    Attributes:
        stem: distance to the recogniser's own front end.
        layers: mean distance to the recogniser's encoder layers.
        decoder: divergence from the decoder's predictions on the transcript.
        transcript: cross-entropy of the transcript: what was said, not what the recogniser hears.
        decoder_from: fraction of the stage after which the decoder joins.
        end: cross-entropy of a text's end. Where it is not 0, half of the steps read without
            padding, with closing frames (`[adapter] num_closing_frames`); for a frozen codec.
        reconstruction: log-mel error.
        commitment: latents to their codes.
    """

    stem: float = 0.5
    layers: float = 2.0
    decoder: float = 0.5
    transcript: float = 0.0
    decoder_from: float = 0.4
    end: float = 0.0
    reconstruction: float = 0.1
    commitment: float = 0.25


@dataclass
class TrainConfig:
    """Everything a training run depends on.

    Attributes:
        output_dir: checkpoints, logs and the finished codec and adapter.
        recogniser: the frozen recogniser that is distilled.
        start_from: folder of a run whose codec and adapter to begin with, its state or, where that
            is gone, the finished folders codec and adapter; stages that are not to be repeated have
            0 steps. With a frozen codec, folder or name of the adapter to begin with. Empty: random
            weights.
        frozen_codec: name or folder of a finished codec that stays as it is; only an adapter for
            `recogniser` is trained, and the stages of the codec must have 0 steps.
        frozen_prior: name or folder of the prior of the codec in `start_from`. Only the codec's
            encoder is trained, on codes that are chosen with this prior; all else stays as it is
            (but the prior may learn the new encoder's codes afterwards, in `priced_steps`).
        optimizer: of the joint stage, "adamw" or "muon".
        seed: of weights, data order, augmentation and codebook draws.
        threads: CPU threads; 0 leaves torch's choice.
        save_every: steps between resumable checkpoints.
        levels: relative frequency of using n codebooks, as {"n": frequency}; "0" is unquantized.
        codec, adapter: overrides of VQCodecConfig's and CodeEmbedderConfig's defaults.
    """

    output_dir: str
    data: DataConfig
    autoencoder: StageConfig
    quantizer: StageConfig
    joint: StageConfig
    gaps: StageConfig = field(default_factory=lambda: StageConfig(steps=0))
    closing: StageConfig = field(default_factory=lambda: StageConfig(0, 2e-2, 10))
    recogniser: str = "tiny.en"
    start_from: str = ""
    frozen_codec: str = ""
    frozen_prior: str = ""
    optimizer: str = "adamw"
    seed: int = 0
    threads: int = 0
    save_every: int = 200
    levels: dict[str, float] = field(
        default_factory=lambda: {"0": 1, "1": 5, "2": 6, "3": 2, "4": 4, "8": 2}
    )
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    prior: PriorTrainConfig = field(default_factory=PriorTrainConfig)
    codec: dict[str, Any] = field(default_factory=dict)
    adapter: dict[str, Any] = field(default_factory=dict)


def load_train_config(path: str | Path) -> TrainConfig:
    """Read a TOML file; paths in it are relative to the folder that the command runs in.

    Raises:
        TrainingError: unreadable, an unknown or missing key, or a value of the wrong type.
    """
    try:
        values = tomllib.loads(Path(path).read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TrainingError(f"{path}: cannot be read as TOML ({error}).") from error
    config: TrainConfig = _build(TrainConfig, values, str(path))
    if not 1 <= config.data.max_utterance_s <= LONGEST_UTTERANCE_S:
        raise TrainingError(
            f"{path}: max_utterance_s = {config.data.max_utterance_s}; 1 to {LONGEST_UTTERANCE_S} "
            "fit into a recogniser's window of 30 s."
        )
    if config.frozen_codec and (config.autoencoder.steps or config.quantizer.steps):
        raise TrainingError(
            f"{path}: with frozen_codec = {config.frozen_codec!r} the stages [autoencoder] and "
            "[quantizer] must have steps = 0: they would change the codec."
        )
    if config.frozen_prior:
        _check_frozen_prior(config, path)
    closes = config.adapter.get("num_closing_frames", 0)
    if config.loss.end and not (config.frozen_codec and closes):
        raise TrainingError(
            f"{path}: [loss] end = {config.loss.end} needs frozen_codec and, in [adapter], "
            "num_closing_frames = 50."
        )
    if config.optimizer not in OPTIMIZERS:
        raise TrainingError(
            f"{path}: optimizer = {config.optimizer!r}; there are {', '.join(OPTIMIZERS)}."
        )
    drawn_levels(config)
    return config


def _check_frozen_prior(config: TrainConfig, path: str | Path) -> None:
    others = config.autoencoder, config.quantizer, config.gaps, config.closing, config.prior
    if any(stage.steps for stage in others) or config.frozen_codec or not config.start_from:
        raise TrainingError(
            f"{path}: with frozen_prior = {config.frozen_prior!r} only the encoder of the codec in "
            "start_from is trained: name one, no frozen_codec, and give all stages but [joint] "
            "0 steps (of [prior], `priced_steps` are allowed)."
        )
    if 0 in drawn_levels(config):
        raise TrainingError(
            f"{path}: [levels] draws 0, no quantizer; with frozen_prior every utterance has codes. "
            "Draw 1 and more."
        )
    if not config.codec.get("variable_depth"):
        raise TrainingError(
            f"{path}: frozen_prior needs a codec with variable_depth = true: at a price of a bit "
            "frames stop early."
        )


def config_hash(config: TrainConfig) -> str:
    """Names what codec and adapter depend on.

    Where they are written and how fast is left out, and so are prior and closing frames, which come
    after them.
    """
    values = dataclasses.asdict(config)
    for name in ("output_dir", "threads", "save_every", "prior", "closing"):
        del values[name]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def drawn_levels(config: TrainConfig) -> list[int]:
    """Numbers of codebooks that are drawn; TrainingError where [levels] names no such number."""
    if not config.levels or not all(n.isdigit() for n in config.levels):
        raise TrainingError(
            f"[levels] has {sorted(config.levels)}: its keys are numbers of codebooks, 0 for none."
        )
    return [int(n) for n in config.levels]


def _build(kind: type, values: dict[str, Any], where: str) -> Any:
    fields = {f.name: f for f in dataclasses.fields(kind)}
    unknown = set(values) - set(fields)
    if unknown:
        raise TrainingError(f"{where}: unknown {sorted(unknown)}; allowed are {sorted(fields)}.")
    for name, value in values.items():
        if dataclasses.is_dataclass(fields[name].type):
            if not isinstance(value, dict):
                raise TrainingError(f"{where}: {name} must be a table, not {value!r}.")
            values[name] = _build(fields[name].type, value, f"{where} [{name}]")  # type: ignore
        elif not _fits(value, fields[name].type):
            raise TrainingError(f"{where}: {name} = {value!r} is not of type {fields[name].type}.")
    try:
        return kind(**values)
    except TypeError as error:
        raise TrainingError(f"{where}: {error}.") from error


def _fits(value: Any, kind: Any) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    plain = get_origin(kind) or kind
    return isinstance(value, plain) and not (isinstance(value, bool) and plain is int)
