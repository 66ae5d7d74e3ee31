"""ruff and mypy are part of the tests."""

import subprocess
import sys
from pathlib import Path

import pytest
from source_tree import ROOT, link_sources

TYPED = """
from vqasr import Stream, compress, transcribe
from vqasr.adapters import WhisperRecogniser

reveal_type(compress("a.wav"))
reveal_type(Stream.load("a.vqs"))
reveal_type(transcribe("a.wav"))
reveal_type(WhisperRecogniser.from_pretrained("tiny.en"))
"""


@pytest.mark.parametrize("arguments", [["check"], ["format", "--check"]], ids=" ".join)
def test_clean(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "ruff", *arguments, "."]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_types(tmp_path: Path) -> None:
    """The whole package is strictly typed, and its users see the types."""
    link_sources(tmp_path)
    (tmp_path / "user.py").write_text(TYPED)
    run = subprocess.run(
        [
            sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", "-p", "vqasr",
            "-m", "user",
        ],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    for name in ("Stream", "Transcript", "WhisperRecogniser"):
        assert f'.{name}"' in run.stdout


def test_shipped_assets_fit_the_budget() -> None:
    files = [p for p in (ROOT / "vqasr" / "assets").rglob("*") if p.is_file()]
    assert 20e6 < sum(p.stat().st_size for p in files) <= 45e6
    assert not [p for p in files if p.suffix in {".bin", ".pt", ".pth", ".pkl", ".ckpt"}]
