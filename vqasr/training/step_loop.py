"""The steps of one stage: batches, progress, log, checkpoints."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from vqasr.errors import TrainingError
from vqasr.training.batches import Batch, Batches
from vqasr.training.config import StageConfig

LOG_EVERY = 50
FINAL_LEARNING_RATE = 0.02  # of the highest, at the end of the cosine


@dataclass
class StepLoop:
    """Runs the steps of a stage.

    Attributes:
        name: of the stage.
        stage: its length.
        first: step to begin with, after a resume.
        offset: number of the stage's first batch; each stage reads its own stretch.
        seed: of what a step draws, together with its number.
        save_every: steps between checkpoints.
    """

    name: str
    stage: StageConfig
    first: int
    offset: int
    seed: int
    save_every: int

    def run(
        self,
        batches: Batches,
        device: torch.device,
        update: Callable[[Batch, int], dict[str, Tensor]],
        save: Callable[[int], None],
        log: Callable[[dict], None],
    ) -> None:
        """Call `update` with each batch and step; log the means of what it returns.

        Raises:
            TrainingError: a loss is not finite. The last checkpoint is from before.
        """
        if self.first >= self.stage.steps:
            return
        columns = (
            TextColumn(f"[bold]{self.name}"), BarColumn(), MofNCompleteColumn(),
            TimeRemainingColumn(), TextColumn("{task.fields[loss]}"),
        )  # fmt: skip
        sums: dict[str, float] = {}
        count = 0
        started = time.monotonic()
        stream = batches.from_step(self.offset + self.first)
        with Progress(*columns) as bar:
            task = bar.add_task(self.name, total=self.stage.steps, completed=self.first, loss="")
            for step, batch in zip(range(self.first, self.stage.steps), stream, strict=False):
                # Dead codes are revived at random frames: the draw must not depend on a resume.
                torch.manual_seed(self.seed * 7_919 + self.offset + step)
                for key, value in update(batch.to(device), step).items():
                    sums[key] = sums.get(key, 0.0) + finite(float(value.detach()), key, step)
                count += 1
                done = step + 1
                if done % LOG_EVERY == 0 or done == self.stage.steps:
                    means = {key: round(value / count, 4) for key, value in sums.items()}
                    elapsed_s = round(time.monotonic() - started, 1)
                    log({"stage": self.name, "step": done, "elapsed_s": elapsed_s, **means})
                    shown = " ".join(f"{k} {v:.3f}" for k, v in list(means.items())[:5])
                    bar.update(task, loss=shown)
                    sums, count = {}, 0
                bar.update(task, completed=done)
                if done % self.save_every == 0:
                    save(done)
        stream.close()


def finite(value: float, name: str, step: int) -> float:
    """The value itself, unless it is NaN or infinite."""
    if not math.isfinite(value):
        raise TrainingError(
            f"{name} is {value} at step {step}. Lower the learning rate and start again from the "
            "last checkpoint."
        )
    return value


def learning_rate(stage: StageConfig, step: int) -> float:
    """Linear warm-up, then a cosine down to 2 % of the highest."""
    if step < stage.warmup_steps:
        return stage.learning_rate * (step + 1) / stage.warmup_steps
    part = (step - stage.warmup_steps) / max(1, stage.steps - stage.warmup_steps)
    cosine = 0.5 * (1.0 + math.cos(math.pi * part))
    return stage.learning_rate * (FINAL_LEARNING_RATE + (1.0 - FINAL_LEARNING_RATE) * cosine)


def append_log(folder: Path, record: dict) -> None:
    """Add a line to log.jsonl."""
    with open(folder / "log.jsonl", "a") as file:
        file.write(json.dumps(record) + "\n")
