"""ruff and mypy are part of the tests."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "arguments",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy", "vqasr", "adapters"],
    ],
    ids=["lint", "format", "types"],
)
def test_clean(arguments: list[str]) -> None:
    run = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_shipped_assets_fit_the_budget() -> None:
    files = [p for p in (ROOT / "vqasr" / "assets").rglob("*") if p.is_file()]
    assert 20e6 < sum(p.stat().st_size for p in files) <= 45e6
    assert not [p for p in files if p.suffix in {".bin", ".pt", ".pth", ".pkl", ".ckpt"}]
