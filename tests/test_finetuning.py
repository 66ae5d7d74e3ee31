"""The fine-tuning recipes, a few steps on bundled clips: they train, resume, and can be used."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import Dataset
from vqasr.adapters.ctc_reader import CTCRecogniser
from vqasr.adapters.load_reader import load_reader
from vqasr.adapters.transcribe import CodesRecogniser

from vqasr.assets import CLIPS
from vqasr.encoding import encode_audio
from vqasr.tokenized import TokenizeConfig, tokenize

RECIPES = Path(__file__).parents[1] / "recipes"


@pytest.fixture(scope="module")
def codes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("codes")
    entries = [e for e in json.loads((CLIPS / "clips.json").read_text()) if "long" not in e][:4]
    rows = [
        {"text": e["text"], "audio": {"bytes": (CLIPS / e["file"]).read_bytes()}} for e in entries
    ]
    Dataset.from_list(rows).to_parquet(folder / "speech.parquet")
    tokenize(TokenizeConfig((str(folder / "speech.parquet"),), num_quantizers=2), folder / "codes")
    return folder / "codes"


def run(script: str, *arguments: object) -> str:
    result = subprocess.run(
        [sys.executable, str(RECIPES / script), *map(str, arguments)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def test_ctc(codes, codec, clips, tmp_path) -> None:
    settings = (
        "--codes", codes, "--dev", codes, "--out", tmp_path, "--hidden-size", 48, "--layers", 1,
        "--batch-size", 2, "--eval-steps", 2, "--num-quantizers", 1, 2,
    )  # fmt: skip
    run("recognition/train_ctc.py", *settings, "--max-steps", 2)
    assert (tmp_path / "checkpoint-2").is_dir()
    run("recognition/train_ctc.py", *settings, "--max-steps", 4)
    log = json.loads((tmp_path / "final" / "log.json").read_text())
    assert [r["step"] for r in log if "eval_wer" in r] == [2, 4]  # it went on from step 2
    reader = load_reader(str(tmp_path / "final"))
    assert isinstance(reader, CTCRecogniser)
    assert isinstance(reader.transcribe_codes([encode_audio(codec, clips[0].samples, 2)])[0], str)


@pytest.mark.parametrize("tune", ["adapter", "lora", "all"])
def test_whisper(tune, codes, codec, clips, recogniser, tmp_path) -> None:
    run(
        "transcription/train_whisper.py", "--codes", codes, "--dev", codes, "--out", tmp_path,
        "--tune", tune, "--max-steps", 2, "--eval-steps", 2, "--batch-size", 1,
        "--num-quantizers", 2, "--dev-rows", 1,
    )  # fmt: skip
    tuned = tmp_path / "whisper"
    assert tuned.is_dir() == (tune != "adapter")
    reader = load_reader(str(tuned) if tuned.is_dir() else "tiny.en", str(tmp_path / "adapter"))
    assert isinstance(reader, CodesRecogniser)
    # Two careful steps change weights, but not the words of an easy clip.
    assert reader.embedder_fingerprint() != recogniser.embedder_fingerprint()
    heard = [encode_audio(codec, clips[1].samples, 2)]
    assert (
        reader.transcribe_codes(heard)[0].split()[:3]
        == (recogniser.transcribe_codes(heard)[0].split()[:3])
    )
    if tuned.is_dir():
        before = recogniser.recogniser.model.state_dict()
        after = reader.recogniser.model.state_dict()
        changed = {n for n, v in after.items() if not v.equal(before[n])}
        assert changed
        assert not any("conv" in name for name in changed) or tune == "all"
