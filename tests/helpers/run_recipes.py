"""Run commands one after the other in one process: run_recipes.py SCRIPT ARGUMENTS -- SCRIPT ..."""

import itertools
import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    for last, group in itertools.groupby(sys.argv[1:], lambda argument: argument == "--"):
        if not last:
            script, *arguments = group
            sys.argv = [script, *arguments]
            sys.path.insert(0, str(Path(script).parent))
            try:
                runpy.run_path(script, run_name="__main__")
            except SystemExit as end:  # as every command of vqasr
                if end.code:
                    raise
