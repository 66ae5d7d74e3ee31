"""Run a recipe several times in one process: run_recipes.py RECIPE ARGUMENTS -- ARGUMENTS ..."""

import itertools
import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    recipe, *arguments = sys.argv[1:]
    sys.path.insert(0, str(Path(recipe).parent))
    for last, group in itertools.groupby(arguments, lambda argument: argument == "--"):
        if not last:
            sys.argv = [recipe, *group]
            runpy.run_path(recipe, run_name="__main__")
