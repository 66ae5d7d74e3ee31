"""Models that systems are made of, and workers that measure systems with them."""

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

from vqasr.adapters.loading import load_recogniser
from vqasr.codec.modeling import VQCodecModel
from vqasr.codec.vocoder import GRIFFIN_LIM, load_vocoder
from vqasr.compression.compress import load_codec
from vqasr.data.engines import Task
from vqasr.data.speech import load_speech
from vqasr.entropy.bundled import bundled_prior
from vqasr.entropy.prior import CodePrior
from vqasr.evaluation.conditions import make_condition
from vqasr.evaluation.run import evaluate_system, read_utterances
from vqasr.evaluation.system_names import make_system


@dataclass(frozen=True)
class BenchConfig:
    """Names of the models, see `evaluate`."""

    asr: str = "tiny.en"
    adapter: str | None = None
    codec: str | VQCodecModel = "vqasr-base"
    prior: CodePrior | None = None
    chunk_frames: int | None = None
    seed: int = 0
    vocoder: str | None = None
    language: str | None = None
    task: str | None = None


class Bench:
    """Loaded models, of which systems are made.

    Args:
        config: their names.
    """

    def __init__(self, config: BenchConfig):
        self.codec = load_codec(config.codec)
        self.recogniser = load_recogniser(config.asr, config.adapter, config.language, config.task)
        self.prior = config.prior or bundled_prior(self.codec.fingerprint())
        loaded = load_vocoder(config.vocoder, self.codec.fingerprint())
        self.vocoder = GRIFFIN_LIM if loaded is None else loaded
        # Makes a system of a name; errors as in `make_system`.
        self.make = partial(
            make_system, codec=self.codec, recogniser=self.recogniser, prior=self.prior,
            chunk_frames=config.chunk_frames, seed=config.seed, vocoder=self.vocoder,
        )  # fmt: skip


@dataclass(frozen=True)
class DataSets:
    """Data sets and their rows, see `evaluate`."""

    sources: tuple[str, ...]
    split: str | None
    text_column: str
    limit: int | None
    batch_size: int


class Measurer:
    """Measure one system after the other, in a worker.

    Args:
        models: names of the models.
        data: the data sets.
    """

    def __init__(self, models: BenchConfig, data: DataSets):
        self._bench, self._data = Bench(models), data
        self._read = lru_cache(maxsize=1)(self._clips)  # tasks come in the order of data sets

    def _clips(self, source: int, condition: str) -> tuple[list[np.ndarray], list[str]]:
        data = self._data
        rows = load_speech(data.sources[source], data.split)
        clips, references = read_utterances(rows, data.text_column, data.limit)
        change = make_condition(condition)
        return [change(clip) for clip in clips], references

    def __call__(self, task: Task) -> dict[str, Any]:
        """Measure the system, source (its number) and condition of a task."""
        clips, references = self._read(task["source"], task["condition"])
        system = self._bench.make(task["system"])
        row, texts = evaluate_system(
            system, clips, references, self._data.batch_size, lambda clips: None
        )
        return {"task": task, "row": row, "texts": texts, "references": references}
