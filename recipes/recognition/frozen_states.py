"""Train what follows a frozen encoder, on the encoder's states, which are computed once."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from rich.progress import track
from torch import Tensor, nn

from vqasr.adapters.ctc import VQWav2Vec2ForCTC
from vqasr.grid import frames_of
from vqasr.training.collator import CodesCollator
from vqasr.training.precision import autocast

ROW = "row"
STATES_MULTIPLE = 64  # of a batch: oneDNN compiles anew for every shape


class StatesCollator:
    """Collate states of rows and their transcripts.

    They are computed with the collator's draws, once for each row, unless the file is there.

    Args:
        model: its embedder and first encoder compute the states.
        data: rows of codes.
        collate: makes batches of codes of them.
        path: of the states, a NumPy file of float16: 138 MB for each hour of a width of 384.
        batch_size: rows that are read together.
    """

    def __init__(
        self,
        model: VQWav2Vec2ForCTC,
        data: Dataset,
        collate: CodesCollator,
        path: Path,
        batch_size: int = 16,
    ):
        self._labels = collate.labels
        counts = 2 * np.array([frames_of(n) for n in data["samples"]], np.int64)
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        if not path.exists():
            partial = path.with_suffix(f".{os.getpid()}")  # several processes compute the same
            width = model.config.base_config().hidden_size
            states = np.lib.format.open_memmap(
                partial, "w+", np.float16, (int(self._starts[-1]), width)
            )
            order = np.argsort(counts, kind="stable")
            groups = range(0, len(order), batch_size)
            for first in track(groups, f"states for {path.name}"):
                rows = order[first : first + batch_size]
                computed = compute_states(model, collate([data[int(row)] for row in rows]))
                for row, of_row in zip(rows, computed, strict=True):
                    place = self._place(row)
                    states[place] = of_row[: place.stop - place.start]
            states.flush()
            partial.replace(path)
        self._states = np.load(path, mmap_mode="r")

    def _place(self, row: int) -> slice:
        return slice(int(self._starts[row]), int(self._starts[row + 1]))

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Return states (batch, states, width), exists (batch, states) bool, and labels."""
        items = [self._states[self._place(row[ROW])] for row in rows]
        longest = max(map(len, items))
        longest += -longest % STATES_MULTIPLE
        states = torch.zeros(len(items), longest, items[0].shape[1])
        exists = torch.zeros(len(items), longest, dtype=torch.bool)
        for i, item in enumerate(items):
            states[i, : len(item)] = torch.from_numpy(item.astype(np.float32))
            exists[i, : len(item)] = True
        labels = self._labels([row["text"] for row in rows])
        return {"states": states, "exists": exists, "labels": labels}


@torch.inference_mode()
def compute_states(model: VQWav2Vec2ForCTC, batch: dict[str, Tensor]) -> np.ndarray:
    """Compute the first encoder's states (batch, states, width) float16 of a batch of codes."""
    codes = batch["input_values"].transpose(1, 2)
    with autocast(codes.device):
        hidden, exists = model.embedder.close(codes)
        return model.encode(hidden, exists).half().numpy()


class AfterEncoder(nn.Module):
    """The second encoder and the output of a model, for transformers' `Trainer`."""

    def __init__(self, model: VQWav2Vec2ForCTC):
        super().__init__()
        self.coarse, self.lm_head = model.coarse, model.lm_head
        self._whole = [model]  # a list hides it from checkpoints

    @property
    def whole(self) -> VQWav2Vec2ForCTC:
        """Return the model of which this is a part."""
        return self._whole[0]

    def forward(self, states: Tensor, exists: Tensor, labels: Tensor) -> dict[str, Any]:
        """Return the loss and the logits."""
        output = self.whole.read_states(states, exists, labels)
        return {"loss": output.loss, "logits": output.logits}
