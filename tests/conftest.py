"""Fixtures: the bundled codec, recogniser and clips, each loaded once."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from vqasr import VQCodecConfig, VQCodecModel, compress
from vqasr.adapters.ctc_recogniser import CTCRecogniser
from vqasr.adapters.whisper_recogniser import WhisperRecogniser
from vqasr.cli.demo import Clip, bundled_clips

SHARED_SPEECH = Path(__file__).parents[2] / "shared" / "speech"

# Longest first, so that two workers end together.
LONGEST = (
    "test_ray.py", "test_quality.py", "test_training.py", "test_finetuning.py", "test_cli.py",
    "test_evaluate.py", "test_live_page.py",
    "test_guards.py", "test_transcribe.py", "test_manners.py", "test_files.py", "test_docs.py",
    "test_pipeline.py", "test_whisper.py", "test_whisper_base.py", "test_demo.py",
)  # fmt: skip

transformers.utils.logging.set_verbosity_error()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.fixture(scope="session")
def codec() -> VQCodecModel:
    return VQCodecModel.from_pretrained("vqasr-base").eval()


@pytest.fixture(scope="session")
def recogniser() -> WhisperRecogniser:
    return WhisperRecogniser.from_pretrained("tiny.en")


@pytest.fixture(scope="session")
def ctc() -> CTCRecogniser:
    return CTCRecogniser.from_pretrained("ctc-small")


@pytest.fixture(scope="session")
def codes(codec, clips) -> np.ndarray:
    """Four codebooks of the first bundled clip."""
    return compress(clips[0].samples, codec=codec, num_quantizers=4).codes


@pytest.fixture(scope="session")
def clips() -> list[Clip]:
    return bundled_clips()


@pytest.fixture(scope="session")
def long_clip() -> Clip:
    """The first seven sentences of the long clip: 32 s, more than a window of Whisper."""
    whole = bundled_clips(long=True)[0]
    text = " ".join(re.split(r"(?<=\.) ", whole.text)[:7])
    return replace(whole, samples=whole.samples[: round(32.3 * 16_000)], text=text)


@pytest.fixture
def small_config() -> VQCodecConfig:
    return VQCodecConfig(
        num_quantizers=3,
        codebook_size=16,
        latent_dim=8,
        hidden_size=16,
        num_fine_layers=1,
        num_layers=2,
        decoder_hidden_size=8,
        num_decoder_layers=1,
    )


@pytest.fixture
def noise() -> np.ndarray:
    return torch.randn(16_000, generator=torch.Generator().manual_seed(0)).numpy() * 0.1


@pytest.fixture
def speech_parquet() -> Path:
    """Folder of real recordings; tests that need it are skipped where it is absent."""
    if not SHARED_SPEECH.is_dir():
        pytest.skip("../shared/speech is absent")
    return SHARED_SPEECH


@pytest.fixture
def without_bfloat16(monkeypatch) -> None:
    """Training computes in float32, as on CPUs without fast bfloat16: sums can be compared."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
