"""Resumable training state: safetensors and JSON, no pickle."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from vqasr.errors import TrainingError
from vqasr.training.optimizer import MuonAndAdamW


def save_checkpoint(
    folder: Path,
    modules: dict[str, nn.Module],
    extra: dict[str, Tensor],
    optimizer: Optimizer | MuonAndAdamW | None,
    progress: dict[str, Any],
) -> None:
    """Write state so that a crash at any moment leaves the old or the new checkpoint whole."""
    tensors = {
        f"{name}.{key}": value.contiguous()
        for name, module in modules.items()
        for key, value in module.state_dict().items()
    }
    tensors |= {f"extra.{key}": value.contiguous() for key, value in extra.items()}
    if optimizer is not None:
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {
                f"optimizer.{index}.{key}": torch.as_tensor(value) for key, value in state.items()
            }
    folder.mkdir(parents=True, exist_ok=True)
    metadata = {"progress": json.dumps(progress)}
    save_file(tensors, folder / "state.partial", metadata=metadata)
    with open(folder / "state.partial", "rb") as file:
        os.fsync(file.fileno())
    os.replace(folder / "state.partial", folder / "state.safetensors")


def read_progress(folder: Path) -> dict[str, Any] | None:
    """Progress of the checkpoint in `folder`, None where there is none."""
    path = folder / "state.safetensors"
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            return json.loads(file.metadata()["progress"])
    except Exception as error:
        raise TrainingError(
            f"{path}: no readable checkpoint ({error}). Delete it to start over."
        ) from error


def load_checkpoint(
    folder: Path, modules: dict[str, nn.Module], optimizer: Optimizer | MuonAndAdamW | None
) -> dict[str, Tensor]:
    """Put weights and optimizer state back; returns the extra tensors.

    Raises:
        TrainingError: the checkpoint belongs to a model of another shape.
    """
    tensors = load_file(folder / "state.safetensors")
    try:
        for name, module in modules.items():
            module.load_state_dict(_below(tensors, f"{name}."))
    except RuntimeError as error:
        raise TrainingError(
            f"{folder}: the checkpoint does not fit this configuration ({error}). Use another "
            "output_dir."
        ) from error
    if optimizer is not None and (saved := _below(tensors, "optimizer.")):
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in saved.items():
            index, name = key.split(".", 1)
            state.setdefault(int(index), {})[name] = value
        optimizer.load_state_dict(
            {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
        )
    return _below(tensors, "extra.")


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def append_log(folder: Path, record: dict[str, Any]) -> None:
    """Add a line to log.jsonl."""
    with open(folder / "log.jsonl", "a") as file:
        file.write(json.dumps(record) + "\n")
