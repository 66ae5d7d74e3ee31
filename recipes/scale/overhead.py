"""Measure how many empty tasks a second the engines hand out.

python recipes/scale/overhead.py --tasks 2000
"""

import argparse
import time

from vqasr.data.engines import LocalEngine, RayEngine


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=2000)
    arguments = parser.parse_args()
    for engine in (LocalEngine(2), RayEngine(2)):
        ends: list[float] = []
        for _ in engine.run(start, [{"number": i} for i in range(arguments.tasks)]):
            ends.append(time.monotonic())
        # Without the start of the workers.
        rate = (len(ends) - 1) / max(ends[-1] - ends[0], 1e-9)
        print(f"{type(engine).__name__}: {rate:.0f} tasks a second")


def start():
    """Return work that does nothing."""
    return lambda task: task["number"]


if __name__ == "__main__":
    main()
