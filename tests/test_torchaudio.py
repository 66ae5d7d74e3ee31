"""torchaudio beside a CPU-only torch, and Whisper after it."""

import subprocess
import sys

import pytest


def python(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_whisper_can_be_imported_after_vqasr() -> None:
    assert python(
        "import vqasr, torchaudio; from transformers import WhisperForConditionalGeneration;"
        "import torch; r = torchaudio.functional.resample(torch.zeros(1, 480), 48000, 16000);"
        "print(tuple(r.shape))"
    ) == ("(1, 160)")


def test_nothing_happens_where_torchaudio_loads(tmp_path) -> None:
    package = tmp_path / "torchaudio"
    package.mkdir()
    (package / "__init__.py").write_text("from . import _extension\n")
    (package / "_extension.py").write_text("real = True\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r});"
        "import importlib.util, pathlib;"
        "spec = importlib.util.spec_from_file_location('fix', {path!r});"
        "fix = importlib.util.module_from_spec(spec); spec.loader.exec_module(fix);"
        "print(fix.ensure_torchaudio()._extension.real)"
    )
    from vqasr import _torchaudio

    assert python(code.replace("{path!r}", repr(_torchaudio.__file__))) == "True"


def test_the_stand_in_takes_over_where_the_extension_fails(tmp_path) -> None:
    package = tmp_path / "torchaudio"
    package.mkdir()
    (package / "__init__.py").write_text("from . import _extension\n")
    (package / "_extension.py").write_text("raise OSError('libcudart.so is missing')\n")
    from vqasr import _torchaudio

    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r});"
        "import importlib.util;"
        f"spec = importlib.util.spec_from_file_location('fix', {_torchaudio.__file__!r});"
        "fix = importlib.util.module_from_spec(spec); spec.loader.exec_module(fix);"
        "e = fix.ensure_torchaudio()._extension; print(e._IS_TORCHAUDIO_EXT_AVAILABLE);"
        "e.fail_if_no_align(print)()"
    )
    with pytest.raises(subprocess.CalledProcessError) as error:
        python(code)
    assert error.value.stdout.strip() == "False"
    assert "native extension" in error.value.stderr
