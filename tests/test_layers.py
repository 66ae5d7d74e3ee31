"""Imports only go down: the contract at the end of pyproject.toml."""

import os
import subprocess
import sys
from pathlib import Path

from source_tree import ROOT, link_sources


def test_imports_only_go_down(tmp_path: Path) -> None:
    link_sources(tmp_path)
    lint = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run(
        [lint, "--config", ROOT / "pyproject.toml", "--no-cache"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "0 broken" in run.stdout
