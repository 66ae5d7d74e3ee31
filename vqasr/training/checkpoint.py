"""Checkpoints and log of a training run: safetensors and JSON, no pickle."""

import json
import math
import time
from collections import Counter
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.optim import Optimizer

from vqasr.errors import TrainingError
from vqasr.files import replace_file

# Endings of the names of the losses beside the progress bar.
SHOWN = (":layers", ":decoder", ":end", "bits_per_code")


class RunFolder:
    """Checkpoint and log in the folder of a training run, which is created.

    `prefix` begins the weights' names; checkpoints with another `config_hash` are not loaded. One
    that is not `written` is only read: several processes train together, and one of them writes.
    """

    def __init__(self, folder: Path, prefix: str, config_hash: str, written: bool = True):
        self._path, self._prefix = folder / "state.safetensors", f"{prefix}."
        self._log = folder / "log.jsonl"
        self._config_hash, self.written = config_hash, written
        folder.mkdir(parents=True, exist_ok=True)

    def save(
        self, step: int, module: nn.Module, optimizer: Optimizer, extra: dict[str, Tensor]
    ) -> None:
        """Write the state after `step` steps; a crash leaves the old or the new one whole."""
        if not self.written:
            return
        tensors = {self._prefix + key: value for key, value in module.state_dict().items()}
        tensors |= {f"extra.{key}": value for key, value in extra.items()}
        tensors |= optimizer_tensors(optimizer, "optimizer.")
        tensors = {key: value.contiguous() for key, value in tensors.items()}
        progress = json.dumps({"step": step, "config": self._config_hash})
        replace_file(self._path, save(tensors, {"progress": progress}))

    def steps_done(self) -> int | None:
        """Return the number of saved steps; None for those of another configuration."""
        if not self._path.is_file():
            return 0
        try:
            with safe_open(self._path, "pt") as file:
                progress = json.loads(file.metadata()["progress"])
        except Exception as error:
            raise TrainingError(
                f"{self._path}: no readable checkpoint ({error}). Delete it to start over."
            ) from error
        return progress["step"] if progress["config"] == self._config_hash else None

    def first_step(self) -> int:
        """Return the number of the next step.

        Raises:
            TrainingError: the folder holds a run of another configuration.
        """
        done = self.steps_done()
        if done is None:
            raise TrainingError(
                f"{self._path.parent} holds a run of another configuration. Name another "
                "output_dir, or delete the folder to start over."
            )
        return done

    def load(self, module: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
        """Load weights and optimizer state; return the extra tensors.

        Raises:
            TrainingError: the checkpoint belongs to a model of another shape.
        """
        tensors = load_file(self._path)
        try:
            module.load_state_dict(below(tensors, self._prefix))
        except RuntimeError as error:
            raise TrainingError(
                f"{self._path}: the checkpoint does not fit this configuration ({error}). Use "
                "another output_dir."
            ) from error
        load_optimizer(optimizer, tensors, "optimizer.")
        return below(tensors, "extra.")

    def log(self, record: dict[str, Any]) -> None:
        """Add a line to log.jsonl."""
        if self.written:
            with open(self._log, "a") as file:
                file.write(json.dumps(record) + "\n")

    def logged(self, stage: str) -> list[dict[str, Any]]:
        """Read the whole lines of a stage from log.jsonl."""
        lines = self._log.read_text().splitlines()
        records = map(json.loads, (line for line in lines if line.endswith("}")))
        return [record for record in records if record["stage"] == stage]


def optimizer_tensors(optimizer: Optimizer, prefix: str) -> dict[str, Tensor]:
    """Return the state of an optimizer, with names that begin with `prefix`."""
    states = optimizer.state_dict()["state"].items()
    return {
        f"{prefix}{index}.{key}": value for index, state in states for key, value in state.items()
    }


def load_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor], prefix: str) -> None:
    """Load the tensors of `optimizer_tensors`; others are allowed beside them."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in below(tensors, prefix).items():
        index, part = key.split(".", 1)
        state.setdefault(int(index), {})[part] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `prefix`, by the rest of their names."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


class StepLog(Progress):
    """Progress bar that logs the mean losses of `log_every` steps; a context manager.

    Before a checkpoint it logs too, which checks that the losses are finite.
    """

    def __init__(self, run: RunFolder, first: int, total: int, log_every: int, save_every: int):
        super().__init__(
            TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(),
            TimeRemainingColumn(), TextColumn("{task.fields[loss]}"), disable=not run.written,
        )  # fmt: skip
        self._run, self._total = run, total
        self._log_every, self._save_every = log_every, save_every
        self._bar = self.add_task("training", total=total, completed=first, loss="")
        self._started, self._audio_s = time.monotonic(), 0.0
        self._sums: dict[str, Tensor] = {}
        self._counts: Counter[str] = Counter()

    def add(self, stage: str, step: int, losses: dict[str, Tensor], audio_s: float = 0.0) -> bool:
        """Add the losses of a step; return whether a checkpoint is due.

        Raises:
            TrainingError: a loss is not finite.
        """
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._counts.update(losses.keys())
        self._audio_s += audio_s
        self.update(self._bar, description=stage, completed=step + 1)
        save_now = (step + 1) % self._save_every == 0 or step + 1 == self._total
        if (step + 1) % self._log_every and not save_now:
            return False
        means = {name: float(value) / self._counts[name] for name, value in self._sums.items()}
        for name, mean in means.items():
            if not math.isfinite(mean):
                raise TrainingError(
                    f"{name} is {mean} at step {step}. Lower the learning rate and start again "
                    "from the last checkpoint."
                )
        elapsed_s = time.monotonic() - self._started
        record = {"stage": stage, "step": step + 1, "elapsed_s": round(elapsed_s, 1)}
        if self._audio_s:
            record["audio_s_per_s"] = round(self._audio_s / elapsed_s, 1)
        self._run.log(record | {name: round(v, 4) for name, v in means.items()})
        shown = (f"{k} {v:.3f}" for k, v in means.items() if k.endswith(SHOWN))
        self.update(self._bar, loss=" ".join(shown))
        self._sums, self._counts = {}, Counter()
        return save_now
