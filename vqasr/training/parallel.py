"""Several processes that share the batches of one training, started by `accelerate launch`.

Each computes some pieces of a batch; gradients and statistics are added up. So a step depends on
the batch, and not on the number of processes (but for the order of float sums). accelerate's
`Accelerator` is not used: it averages over processes whose parts may be of different sizes, and
knows nothing of the codebooks' statistics.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

LONGEST_WAIT = timedelta(days=2)


class Processes:
    """The processes of this training: one, or those of `accelerate launch`."""

    def __init__(self) -> None:
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.number = 0
        if self.count > 1:
            self.number = self._state.process_index

    @cached_property
    def _state(self) -> Any:
        from accelerate import PartialState  # most trainings do not need it

        # The others wait while the main process transcribes, which may take hours.
        return PartialState(timeout=LONGEST_WAIT)

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        if self.count > 1:
            device: torch.device = self._state.device
            return device
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def is_main(self) -> bool:
        """Whether this process writes, measures and finishes the training."""
        return self.number == 0

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Let the main process pass alone, and the others when it is through."""
        if self.count == 1:
            yield
        else:
            with self._state.main_process_first():
                yield

    def same(self, module: nn.Module) -> None:
        """Copy parameters and buffers of the main process to all."""
        if self.count > 1:
            for tensor in module.state_dict(keep_vars=True).values():
                dist.broadcast(tensor.data, 0)

    def sum(self, tensors: Iterable[Tensor]) -> None:
        """Add up tensors over the processes, in place."""
        if self.count > 1:
            for tensor in tensors:
                dist.all_reduce(tensor)

    def total(self, value: float) -> float:
        """Add up a number over the processes."""
        if self.count == 1:
            return value
        tensor = torch.tensor(value, device=self.device)
        dist.all_reduce(tensor)
        return float(tensor)

    def sum_gradients(self, parameters: list[nn.Parameter]) -> None:
        """Add up the gradients over the processes.

        Parameters without a gradient in any process keep none: the optimizer leaves them as they
        are.
        """
        if self.count == 1:
            return
        has = torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32)
        has = has.to(parameters[0].device)
        dist.all_reduce(has)
        learned = [p for p, some in zip(parameters, has.tolist(), strict=True) if some]
        if not learned:
            return
        flat = torch.cat(
            [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in learned]
        )
        dist.all_reduce(flat)
        for p, gradient in zip(learned, flat.split([p.numel() for p in learned]), strict=True):
            p.grad = gradient.view_as(p)

    def from_process(self, number: int, tensor: Tensor) -> None:
        """Copy a tensor of one process to all, in place."""
        if self.count > 1:
            dist.broadcast(tensor, number)
