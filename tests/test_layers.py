"""Imports only go down: the contract at the end of pyproject.toml."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_imports_only_go_down(tmp_path: Path) -> None:
    # import-linter reads one package; vqasr.adapters lies beside it, in adapters/.
    package = tmp_path / "vqasr"
    package.mkdir()
    for path in (ROOT / "vqasr").iterdir():
        (package / path.name).symlink_to(path)
    (package / "adapters").symlink_to(ROOT / "adapters")
    run = subprocess.run(
        [
            Path(sys.executable).with_name("lint-imports"),
            "--config",
            ROOT / "pyproject.toml",
            "--no-cache",
        ],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "0 broken" in run.stdout
