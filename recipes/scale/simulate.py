"""Simulate tokenizing of a large data set on many nodes: hours, cost, and how linear it is.

python recipes/scale/simulate.py --core-s-per-hour 45 --start-s 8 --tasks-per-s 100 \\
    --input-bytes-per-hour 11e6 --output-bytes-per-hour 0.3e6
"""

import argparse
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib
import numpy as np
import simpy

matplotlib.use("Agg")
import matplotlib.pyplot as plt

IDLE_S = 10.0  # between two looks of a worker without work


@dataclass(frozen=True)
class Costs:
    """What the work costs: measured on one machine, or assumed of a cluster."""

    # Measured, see README.
    core_s_per_hour: float  # of speech, on one core
    start_s: float  # until a worker has loaded its models
    tasks_per_s: float  # that one driver hands out
    input_bytes_per_hour: float
    output_bytes_per_hour: float
    # Assumed.
    speech_hours: float
    shard_hours: float
    cores: int  # of a node
    spread: float  # standard deviation of the logarithm of a shard's time
    stragglers: float  # share of the nodes that are slow
    straggler_factor: float
    hours_between_failures: float  # of a node
    restart_s: float  # until a lost node is replaced
    node_bytes_per_s: float  # network of a node
    store_bytes_per_s: float  # all nodes together
    request_s: float  # latency of the store, for each shard's reads and its write
    price_per_node_hour: float


class Cluster:
    """Nodes that work on the shards of one queue, as Ray Data's actors do."""

    def __init__(self, costs: Costs, nodes: int, seed: int):
        self.costs, self.nodes = costs, nodes
        self.env = simpy.Environment()
        self.rng = np.random.default_rng([seed, nodes])
        self.left = math.ceil(costs.speech_hours / costs.shard_hours)
        self.shards, self.done, self.repeated = self.left, 0, 0
        self.lost: list[int] = []
        self.driver = simpy.Resource(self.env, capacity=1)
        self.busy_s = 0.0
        self.end_s = math.inf
        self.finished = self.env.event()

    def run(self) -> dict[str, float]:
        """Simulate until the last shard is written."""
        costs = self.costs
        for _ in range(self.nodes):
            slow = self.rng.random() < costs.stragglers
            self.env.process(self._node(costs.straggler_factor if slow else 1.0))
        self.env.run(self.finished)
        hours = self.env.now / 3600
        ideal = costs.speech_hours * costs.core_s_per_hour / 3600 / (self.nodes * costs.cores)
        return {
            "nodes": self.nodes,
            "hours": round(hours, 2),
            "efficiency": round(ideal / hours, 3),
            "node_hours": round(hours * self.nodes, 1),
            "price": round(hours * self.nodes * costs.price_per_node_hour, 1),
            "repeated_shards": self.repeated,
            "busy_share": round(self.busy_s / (self.env.now * self.nodes * costs.cores), 3),
        }

    def _node(self, factor: float) -> simpy.events.ProcessGenerator:
        costs = self.costs
        while not self.finished.triggered:
            workers = [self.env.process(self._worker(factor)) for _ in range(costs.cores)]
            lasts_s = self.rng.exponential(3600 * costs.hours_between_failures)
            yield self.env.timeout(lasts_s) | self.finished
            if self.finished.triggered:
                return
            for worker in workers:
                if worker.is_alive:
                    worker.interrupt()
            yield self.env.timeout(costs.restart_s)

    def _worker(self, factor: float) -> simpy.events.ProcessGenerator:
        costs, working = self.costs, False
        try:
            yield self.env.timeout(costs.start_s * factor)
            while not self.finished.triggered:
                if not self.left:  # a lost node may give its shards back
                    yield self.env.timeout(IDLE_S)
                    continue
                self.left, working = self.left - 1, True
                with self.driver.request() as turn:
                    yield turn
                    yield self.env.timeout(1 / costs.tasks_per_s)
                begin = self.env.now
                yield self.env.timeout(self._shard_s(factor))
                self.busy_s += self.env.now - begin
                self.done, working = self.done + 1, False
                if self.done == self.shards:
                    self.finished.succeed()
        except simpy.Interrupt:
            if working:  # nothing was written: another worker begins anew
                self.left, self.repeated = self.left + 1, self.repeated + 1

    def _shard_s(self, factor: float) -> float:
        costs = self.costs
        work_s = costs.core_s_per_hour * costs.shard_hours * factor
        work_s *= math.exp(self.rng.normal(-(costs.spread**2) / 2, costs.spread))
        size = (costs.input_bytes_per_hour + costs.output_bytes_per_hour) * costs.shard_hours
        # The fair share of a worker, as if all were reading: pessimistic while they compute.
        share = min(
            costs.node_bytes_per_s / costs.cores,
            costs.store_bytes_per_s / (self.nodes * costs.cores),
        )
        return work_s + size / share + 3 * costs.request_s


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--nodes", type=int, nargs="+", default=[1, 2, 5, 10, 20, 50, 100, 200, 500]
    )
    measured = parser.add_argument_group("measured on two cores, see README")
    measured.add_argument("--core-s-per-hour", type=float, required=True)
    measured.add_argument("--start-s", type=float, required=True)
    measured.add_argument("--tasks-per-s", type=float, required=True)
    measured.add_argument("--input-bytes-per-hour", type=float, required=True)
    measured.add_argument("--output-bytes-per-hour", type=float, required=True)
    assumed = parser.add_argument_group("assumed")
    assumed.add_argument("--speech-hours", type=float, default=1e5)
    assumed.add_argument("--shard-hours", type=float, default=1.0)
    assumed.add_argument("--cores", type=int, default=16, help="of a node")
    assumed.add_argument("--spread", type=float, default=0.2, help="of the logarithm of times")
    assumed.add_argument("--stragglers", type=float, default=0.02, help="share of slow nodes")
    assumed.add_argument("--straggler-factor", type=float, default=3.0)
    assumed.add_argument("--hours-between-failures", type=float, default=200.0, help="of a node")
    assumed.add_argument("--restart-s", type=float, default=180.0)
    assumed.add_argument("--node-bytes-per-s", type=float, default=1.25e9)
    assumed.add_argument("--store-bytes-per-s", type=float, default=1e10)
    assumed.add_argument("--request-s", type=float, default=0.1)
    assumed.add_argument("--price-per-node-hour", type=float, default=0.3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/scale"))
    arguments = vars(parser.parse_args())
    nodes, seeds, out = (arguments.pop(name) for name in ("nodes", "seeds", "out"))
    costs = Costs(**arguments)
    rows = []
    for count in nodes:
        runs = [Cluster(costs, count, seed).run() for seed in range(seeds)]
        rows.append({name: round(float(np.mean([r[name] for r in runs])), 3) for name in runs[0]})
        print(json.dumps(rows[-1]), flush=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / "simulation.json").write_text(
        json.dumps({"costs": asdict(costs), "rows": rows}, indent=1)
    )
    draw(rows, out / "simulation.png")


def draw(rows: list[dict[str, float]], path: Path) -> None:
    """Plot hours and efficiency by the number of nodes."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    nodes = [row["nodes"] for row in rows]
    left.loglog(nodes, [row["hours"] for row in rows], "o-", label="simulated")
    ideal = [row["hours"] * row["efficiency"] for row in rows]
    left.loglog(nodes, ideal, "k--", linewidth=1, label="linear")
    left.set(xlabel="nodes", ylabel="hours")
    left.legend()
    right.semilogx(nodes, [100 * row["efficiency"] for row in rows], "o-")
    right.set(xlabel="nodes", ylabel="efficiency, %", ylim=(0, 105))
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
