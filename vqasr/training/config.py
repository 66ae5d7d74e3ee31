"""Training configuration: one TOML file."""

import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vqasr.errors import TrainingError


@dataclass
class DataConfig:
    """Where speech comes from.

    Attributes:
        train, dev: parquet files, folders or hub ids with columns audio and text.
        noise: the same with column kind ("rir" for room impulse responses, else noise); every
            fifth noise is held out for testing. Empty for no augmentation with either.
        batch_s: seconds of audio in a batch.
        max_utterance_s: longer utterances are cropped (and then have no transcript); at most 30.
        dev_utterances: size of the slice that judges each stage.
    """

    train: list[str]
    dev: list[str]
    noise: list[str] = field(default_factory=list)
    batch_s: float = 48.0
    max_utterance_s: float = 16.0
    dev_utterances: int = 60


@dataclass
class AugmentConfig:
    """Probability of each change of the encoder's input (the target stays clean)."""

    gain: float = 0.5
    noise: float = 0.25
    reverberation: float = 0.1
    band_limit: float = 0.15


@dataclass
class StageConfig:
    """One stage's length and step size."""

    steps: int
    learning_rate: float = 1e-3
    warmup_steps: int = 100


@dataclass
class LossConfig:
    """Weights of the joint stage.

    Attributes:
        stem: distance to the recogniser's own front end.
        layers: mean distance to the recogniser's encoder layers.
        decoder: divergence from the decoder's predictions on the transcript.
        decoder_from: fraction of the stage after which the decoder joins.
        reconstruction: log-mel error.
        commitment: latents to their codes.
    """

    stem: float = 0.5
    layers: float = 2.0
    decoder: float = 0.5
    decoder_from: float = 0.4
    reconstruction: float = 0.1
    commitment: float = 0.25


@dataclass
class TrainConfig:
    """Everything a training run depends on.

    Attributes:
        output_dir: checkpoints, logs and the finished codec and adapter.
        recogniser: the frozen recogniser that is distilled.
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
    recogniser: str = "tiny.en"
    seed: int = 0
    threads: int = 0
    save_every: int = 200
    levels: dict[str, float] = field(
        default_factory=lambda: {"0": 1, "1": 5, "2": 6, "3": 2, "4": 4, "8": 2}
    )
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
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
    return _build(TrainConfig, values, str(path))


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
    try:
        return kind(**values)
    except TypeError as error:
        raise TrainingError(f"{where}: {error}.") from error
