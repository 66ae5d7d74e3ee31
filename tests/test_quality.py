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


def test_layout() -> None:
    """One concept a file: none grows beyond what can be read in one sitting."""
    files = [p for folder in ("vqasr", "adapters") for p in (ROOT / folder).rglob("*.py")]
    lines = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in files}
    assert not {path: n for path, n in lines.items() if n > 320}


def test_shipped_assets_fit_the_budget() -> None:
    assets = ROOT / "vqasr" / "assets"
    size = {p: p.stat().st_size for p in assets.rglob("*") if p.is_file()}
    assert sum(size.values()) <= 25e6
    bundled = ("vqasr-base", "vqasr-base-prior", "vqasr-base-whisper-tiny.en")
    assert 13e6 < sum(n for p, n in size.items() if p.parent.name in bundled) <= 14e6
    assert 1e6 < sum(n for p, n in size.items() if p.parent.name == "ctc-small") <= 10e6
    pickles = [p for p in size if p.suffix in {".bin", ".pt", ".pth", ".pkl", ".ckpt"}]
    assert not pickles
