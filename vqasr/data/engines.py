"""Engines that share tasks among processes of this machine, or among machines with Ray.

Not datasets.map for the processes of one machine: it needs a data set that is copied to its cache,
writes its results there and starts anew after an interruption. ProcessPoolExecutor of the standard
library runs the tasks here and keeps the promises of both engines: whole shards, at most once.
"""

import importlib
import json
import logging
import multiprocessing
import multiprocessing.connection
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from typing import Any

from vqasr.errors import VqasrError

Task = dict[str, Any]  # plain values
Work = Callable[[Task], Any]  # returns plain values, as JSON has them
MOST_BLOCKS = 2000  # of tasks that Ray Data schedules; more cost it more than they help


@dataclass(frozen=True)
class LocalEngine:
    """Processes of this machine, one thread each; a single one works in the caller's process.

    Attributes:
        processes: number of worker processes.
    """

    processes: int = 1

    @property
    def in_process(self) -> bool:
        """Tell whether the work is done in the caller's process."""
        return self.processes <= 1

    def begin(self) -> None:
        """Prepare nothing; see `RayEngine.begin`."""

    def run(self, start: Callable[[], Work], tasks: Sequence[Task]) -> Iterator[Any]:
        """Work on tasks in any order; yield the results as they come.

        Args:
            start: is called once in each worker, loads what the work needs, and returns it.
                Workers get it from another process, so that it must be a function of a module, a
                partial of one, or an object of a class of a module.
            tasks: dictionaries of plain values.

        Raises:
            VqasrError: a worker was killed.
            Exception: of the work.
        """
        if self.in_process or len(tasks) <= 1:
            work = start() if tasks else None
            yield from (work(task) for task in tasks if work is not None)
            return
        count = min(self.processes, len(tasks))
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(count, context, _begin_worker, (start,)) as pool:
            running = [pool.submit(_work_on, task) for task in tasks]
            try:
                yield from (future.result() for future in as_completed(running))
            except BrokenProcessPool as error:
                raise VqasrError(
                    "a worker process was killed, perhaps for want of memory. The same command "
                    "continues the run; fewer --processes need less memory."
                ) from error
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


_get_work: Callable[[], Work]  # of this worker process


def _use_one_thread() -> None:
    """Let torch use one thread in this process; without importing it, which takes two seconds."""
    os.environ["OMP_NUM_THREADS"] = "1"
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def _begin_worker(start: Callable[[], Work]) -> None:
    global _get_work
    _use_one_thread()
    end_with_parent()
    _get_work = cache(start)  # not yet: the pool would hide its errors


def _work_on(task: Task) -> Any:
    return _get_work()(task)


@dataclass(frozen=True)
class RayEngine:
    """Actors of a Ray cluster, by Ray Data; killed ones are restarted and their tasks repeated.

    Attributes:
        processes: number of actors, with one CPU each; None for as many as the cluster has CPUs.
        address: of a running cluster, "auto" to find it; None starts one on this machine.
        gpus_per_process: 0 for CPU actors; a fraction puts several actors on a GPU.
    """

    processes: int | None = None
    address: str | None = None
    gpus_per_process: float = 0.0

    in_process = False

    def begin(self) -> None:
        """Start or find the cluster, while a thread imports what the caller needs next.

        Optional: saves the seconds that Ray takes to start. It ends with the process.

        Raises:
            VqasrError: as `run`.
        """
        ray = _import_ray()
        if ray.is_initialized():
            return
        models = ("vqasr.compression.compress",)
        threading.Thread(target=importlib.import_module, args=models, daemon=True).start()
        self._connect(ray)

    def run(self, start: Callable[[], Work], tasks: Sequence[Task]) -> Iterator[Any]:
        """Work on tasks as `LocalEngine.run` does; `start` is called once in each actor.

        Raises:
            VqasrError: Ray is not installed, or there is no cluster at the address.
            Exception: of the work.
        """
        if not tasks:
            return
        ray = _import_ray()
        own = not ray.is_initialized()
        if own:
            self._connect(ray)
        try:
            yield from self._map(ray, start, tasks)
        finally:
            if own:
                ray.shutdown()

    def _connect(self, ray: Any) -> None:
        options: dict[str, Any] = {"address": self.address}
        if self.address is None:
            options |= {"address": "local", "num_cpus": self.processes, "include_dashboard": False}
            # Ray's workers give way to all other processes, those of this machine's user too.
            os.environ.setdefault("RAY_worker_niceness", "0")
        try:
            ray.init(log_to_driver=False, logging_level="ERROR", **options)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise VqasrError(
                f"--address {self.address}: no Ray cluster ({error}). Start one with `ray start "
                "--head`, or leave the address out for a cluster of this machine alone."
            ) from error

    def _map(self, ray: Any, start: Callable[[], Work], tasks: Sequence[Task]) -> Iterator[Any]:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False  # the caller has its own
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        context.print_on_execution_start = False
        processes = self.processes or int(ray.cluster_resources()["CPU"])
        items = [{"task": json.dumps(task)} for task in tasks]
        results = ray.data.from_items(items, override_num_blocks=min(len(items), MOST_BLOCKS)).map(
            _RayWorker, fn_constructor_args=(start,),
            compute=ray.data.ActorPoolStrategy(
                size=min(processes, len(items)), max_tasks_in_flight_per_actor=2
            ),
            num_cpus=1, num_gpus=self.gpus_per_process,
        )  # fmt: skip
        # Ray Data restarts killed actors and repeats their tasks, without end.
        try:
            for row in results.iter_rows():
                result = json.loads(row["result"])
                if "error" in result:
                    raise VqasrError(result["error"])
                yield result["value"]
        except ray.exceptions.RayError as error:
            raise VqasrError(
                f"Ray could not finish the work ({error}). The same command continues the run. "
                "Every node needs the same version of vqasr."
            ) from error


class _RayWorker:
    """Give an actor its work. Errors travel as text: Ray would repeat the tasks that raise them."""

    def __init__(self, start: Callable[[], Work]):
        _use_one_thread()
        self._get_work = cache(start)

    def __call__(self, row: dict[str, str]) -> dict[str, str]:
        try:
            result = {"value": self._get_work()(json.loads(row["task"]))}
        except VqasrError as error:
            result = {"error": str(error)}
        except OSError as error:
            result = {
                "error": f"{error.filename}: {error.strerror}." if error.filename else str(error)
            }
        return {"result": json.dumps(result)}


def _import_ray() -> Any:
    # Its C++ core warns of what Ray Data itself does; read when Ray starts.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise VqasrError(
            "the engine ray needs Ray Data: pip install 'vqasr[ray]', or leave --engine out."
        ) from error
    return ray


def end_with_parent() -> None:
    """End this worker when its parent ends: a killed command's workers would go on writing."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # for the type checker: workers have one

    def wait() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
