"""Whatever is wrong, the command line says it in one line and shows no traceback."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cli_helpers import vqasr

from vqasr import compress
from vqasr.assets import ASSETS, CLIPS

CLIP = CLIPS / "clip01_af_heart.flac"


@pytest.fixture(scope="module")
def stream(codec, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("manners") / "talk.vqs"
    compress(CLIP, codec=codec, num_quantizers=2).save(path)
    return path


def one_line(*arguments: object) -> str:
    error = vqasr(*arguments, ok=False).stderr
    assert error.count("error:") == 1, error
    assert "Traceback" not in error
    assert "VQASR_DEBUG" not in error  # only for what nobody thought of
    assert len(error.strip().splitlines()) == 1, error
    return error


@pytest.mark.parametrize(
    ("start_s", "end_s"),
    [("inf", "inf"), ("1e308", "inf"), ("1e30", "1e308"), ("5", "0"), ("0", "0"), ("0", "1e308")],
)
@pytest.mark.parametrize("source", ["stream", "audio", "uncompressed"])
def test_times_beyond_the_end(source, start_s, end_s, stream) -> None:
    what = {
        "stream": [stream, "--asr", "ctc-small"], "audio": [CLIP, "--asr", "ctc-small"],
        "uncompressed": [CLIP, "--uncompressed"],
    }[source]  # fmt: skip
    command = ("transcribe", *what, "--start-s", start_s, "--end-s", end_s)
    if start_s == "inf" or float(start_s) > float(end_s):
        assert "0 <= start_s <= end_s is needed" in one_line(*command)
    else:
        text = vqasr(*command).stdout.strip()
        if source != "uncompressed":  # Whisper writes "you" for the silence at the end
            assert bool(text) == (start_s == "0" and end_s != "0")


@pytest.mark.parametrize(
    ("option", "value"),
    [("--start-s", "nan"), ("--end-s", "nan"), ("--start-s", "-1"), ("--bps", "nan")],
)
def test_numbers_that_are_none(option, value) -> None:
    run = vqasr("transcribe", CLIP, option, value, ok=False)
    assert f"Invalid value for '{option}'" in run.stderr


@pytest.mark.parametrize("value", ["inf", "-5", "1e308"])
def test_rates_that_do_not_exist(value, tmp_path) -> None:
    assert "choose 158 to" in one_line("encode", CLIP, "-o", tmp_path / "a.vqs", "--bps", value)
    assert "use one of" in one_line("encode", CLIP, "-o", tmp_path / "a.vqs", "--chunk-s", value)


# Command and a part of its message.
REFUSED_EARLY = (
    ("encode CLIP -o a.vqs -n 4 --bps 300", "both choose the rate"),
    ("encode CLIP -o a.vqs --bps -5", "choose 158 to"),
    ("encode CLIP -o a.vqs -n 9", "choose 1 to 8 codebooks"),
    ("encode CLIP -o a.vqs -n 0 --codec user/codec", "choose 1 or more codebooks"),
    ("encode CLIP -o a.vqs --bps inf --codec user/codec", "choose a finite number above 0"),
    ("tokenize folder -o codes -n 4 --bps 300", "both choose the rate"),
    ("transcribe CLIP -n 4 --bps 300 --adapter own", "both choose the rate"),
    ("transcribe CLIP --asr base -n 9", "choose 1 to 8 codebooks"),
    ("transcribe CLIP --language fr", "knows English only"),
    ("transcribe CLIP --asr ctc-small+lm --task translate", "no languages or tasks"),
    ("decode CLIP -o a.mp3", "writes .wav"),
)


def test_what_needs_no_model_is_refused_before_torch_is_imported() -> None:
    commands = [[str(CLIP) if w == "CLIP" else w for w in c.split()] for c, _ in REFUSED_EARLY]
    program = (
        "import sys; from cli_helpers import run\n"
        f"errors = [run(*command).stderr for command in {commands}]\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)\n"
        "print(*errors, sep='', end='')"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    for line, (command, message) in zip(done.stdout.splitlines(), REFUSED_EARLY, strict=True):
        assert line.startswith("error:"), command
        assert message in line


def damage(folder: Path, how: str) -> None:
    weights = next(folder.glob("*.safetensors*"))
    config = next(
        (p for n in ("config", "adapter_config") if (p := folder / f"{n}.json").exists()), None
    )
    data = weights.read_bytes()
    if how == "cut":
        weights.write_bytes(data[: len(data) // 2])
    elif how == "empty":
        weights.write_bytes(b"")
    elif how == "noise":
        weights.write_bytes(bytes(range(256)) * 40)
    elif how == "no weights":
        weights.unlink()
    elif how == "pickle":
        weights.unlink()
        for name in ("pytorch_model.bin", "adapter_model.bin", "prior.bin"):
            (folder / name).write_bytes(pickle.dumps(Bomb()))
    elif how == "no folder":
        shutil.rmtree(folder)
    elif config is not None:
        config.write_text("{" if how == "broken config" else json.dumps({"model_type": "bert"}))


class Bomb:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> tuple:
        return Path.touch, (Path("unpickled"),)


MODELS = {
    "codec": ("vqasr-base", ("encode", CLIP, "-o", "a.vqs", "-n", "1", "--codec")),
    "prior": ("vqasr-base-prior", ("encode", CLIP, "-o", "a.vqs", "-n", "1", "--prior")),
    "adapter": ("vqasr-base-whisper-tiny.en", ("transcribe", CLIP, "--adapter")),
    "ctc": ("ctc-small", ("transcribe", CLIP, "--asr")),
    "vocoder": ("vqasr-base-vocoder", ("decode", "clip.vqs", "-o", "a.wav", "--vocoder")),
}


DAMAGE = (
    "cut", "empty", "noise", "no weights", "pickle", "no folder", "broken config", "other model",
)  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "how"),
    # The sizes of a prior are in the file of its weights.
    [(k, h) for k in MODELS for h in (DAMAGE[:6] if k == "prior" else DAMAGE)],
)
def test_broken_models(kind, how, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    name, command = MODELS[kind]
    folder = tmp_path / "model"
    shutil.copytree(ASSETS / name, folder)
    damage(folder, how)
    if kind == "vocoder":
        vqasr("encode", CLIP, "-o", "clip.vqs", "-n", 1)
    error = one_line(*command, folder)
    assert str(folder) in error
    for advice in ("unpickle", "weights_only", "torch.load", "trust_remote_code"):
        assert advice not in error
    assert not Path("unpickled").exists()


@pytest.mark.parametrize("kind", MODELS)
def test_misspelt_names_are_not_sought_on_the_hub(kind, stream, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(stream, "clip.vqs")
    name, command = MODELS[kind]
    error = one_line(*command, "vqasr-bse")
    assert "'vqasr-bse' cannot be loaded (no such name or folder, and no hub id" in error
    assert name in error


def test_no_threads_left(stream, monkeypatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    error = vqasr("cat", stream, stream, "-o", stream.parent / "two.vqs", ok=False).stderr
    assert "can't start new thread" in error
    assert "Traceback" not in error


def test_a_full_disk(stream, monkeypatch, tmp_path) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device", None)

    monkeypatch.setattr("os.fsync", full)
    error = one_line("trim", stream, "-n", 1, "-o", tmp_path / "small.vqs")
    assert error.count("small.vqs") == 1
    assert "No space left" in error
    assert ".tmp" not in error
    assert list(tmp_path.iterdir()) == []


def test_help_version_and_completion() -> None:
    assert vqasr("--version").stdout.startswith("vqasr ")
    assert vqasr("-h").stdout == vqasr("--help").stdout
    assert "--install-completion" in vqasr("--help").stdout
    for command in ("encode", "decode", "info", "trim", "cat", "transcribe", "evaluate"):
        text = vqasr(command, "-h").stdout
        assert "Examples" in text, command
        assert max(map(len, text.splitlines())) <= 80, command
