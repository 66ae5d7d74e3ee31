"""torchaudio beside a CPU-only torch.

conftest.py imports vqasr first and Whisper after it: without the stand-in no test would start.
"""

import subprocess
import sys

import torch
import torchaudio

from vqasr.audio import _torchaudio


def python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_resampling_needs_no_extension() -> None:
    wave = torchaudio.functional.resample(torch.zeros(1, 480), 48_000, 16_000)
    assert wave.shape == (1, 160)


def run_beside(tmp_path, extension: str, then: str) -> str:
    """Run `ensure_torchaudio` where torchaudio is a package with this native extension."""
    package = tmp_path / "torchaudio"
    package.mkdir()
    (package / "__init__.py").write_text("from . import _extension\n")
    (package / "_extension.py").write_text(extension)
    return python(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import importlib.util;"
        f"spec = importlib.util.spec_from_file_location('fix', {_torchaudio.__file__!r});"
        "fix = importlib.util.module_from_spec(spec); spec.loader.exec_module(fix);"
        f"extension = fix.ensure_torchaudio()._extension; {then}"
    )


def test_nothing_happens_where_torchaudio_loads(tmp_path) -> None:
    assert run_beside(tmp_path, "real = True\n", "print(extension.real)") == "True"


def test_the_stand_in_takes_over_where_the_extension_fails(tmp_path) -> None:
    said = run_beside(
        tmp_path,
        "raise OSError('libcudart.so is missing')\n",
        "print(extension._IS_TORCHAUDIO_EXT_AVAILABLE)\n"
        "try: extension.fail_if_no_align(print)()\n"
        "except RuntimeError as error: print(error)",
    )
    assert said.startswith("False")
    assert "native extension" in said
