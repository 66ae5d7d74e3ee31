"""Scores of decoded audio."""

import importlib.util
import json

import numpy as np
import pytest
from training_helpers import training_data

from vqasr.assets import CLIPS
from vqasr.audio.sources import load_audio
from vqasr.errors import CodecError, VqasrError
from vqasr.evaluation import listening
from vqasr.evaluation.evaluate import evaluate, spread
from vqasr.evaluation.listening import listening_scores, measures_available, pitch_errors
from vqasr.evaluation.system_names import expand_systems, make_system
from vqasr.evaluation.voices import load_voice_encoder, speaker_similarity

HIGHER_IS_BETTER = ("pesq_wb", "stoi", "estoi", "speaker_similarity")
HAS_PESQ = importlib.util.find_spec("pesq") is not None
HAS_VOICES = importlib.util.find_spec("resemblyzer") is not None


@pytest.fixture(scope="module")
def clip(clips) -> np.ndarray:
    return clips[0].samples


def test_the_same_audio_has_the_best_scores(clip) -> None:
    scores = listening_scores([clip, clip], lambda c: c)
    assert scores["listening_clips"] == 2
    assert scores["stoi"] == pytest.approx(1, abs=1e-3)
    assert scores["estoi"] == pytest.approx(1, abs=1e-3)
    assert scores["f0_error_cents"] == scores["voicing_error"] == 0
    if HAS_VOICES:
        assert scores["speaker_similarity"] == pytest.approx(1, abs=1e-5)
    if HAS_PESQ:
        assert scores["pesq_wb"] > 4.6


def test_noise_lowers_them(clip) -> None:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(len(clip)).astype(np.float32)
    little, much = (
        listening_scores([clip], lambda c, level=level: c + level * noise) for level in (0.01, 0.1)
    )
    for name in measures_available():
        if name in HIGHER_IS_BETTER:
            assert much[name] < little[name]
        else:
            assert much[name] > little[name]


def test_unquantized_latents_are_the_anchor(clip, codec, recogniser) -> None:
    """The vocoder at its best: nearer to the recording than one codebook, with bytes of float32."""
    names = "vqasr:1+pitch:audio,vqasr:continuous+pitch:audio"
    systems = [make_system(n, codec, recogniser) for n in expand_systems(names, codec)]
    one, anchor = (listening_scores([clip], system.decode) for system in systems)
    assert anchor["estoi"] > one["estoi"] + 0.03
    output = systems[1].run([clip], 1)
    assert output.stream_bytes == [4 * codec.config.latent_dim * codec.config.frames(len(clip))]
    assert len(output.texts[0].split()) > 5
    with pytest.raises(CodecError, match="trained vocoder"):
        make_system("vqasr:continuous:audio", codec, recogniser, vocoder="griffin-lim")
    with pytest.raises(VqasrError, match="unknown system"):
        expand_systems("vqasr:continuous+pitch", codec)


def test_errors_of_the_fundamental_frequency() -> None:
    time_s = np.arange(32_000) / 16_000
    voices = [
        sum(np.sin(2 * np.pi * k * hz * time_s) / k for k in range(1, 9)).astype(np.float32)
        for hz in (150.0, 150.0 * 2 ** (50 / 1200))
    ]
    cents, voicing = pitch_errors(*voices)
    assert cents == pytest.approx(50, abs=1)
    assert voicing == 0
    half = voices[0] * (time_s < 1.0)
    cents, voicing = pitch_errors(voices[0], half)
    assert cents < 1
    assert voicing == pytest.approx(0.5, abs=0.05)
    assert pitch_errors(voices[0], 0 * half) == (None, 1.0)
    assert pitch_errors(voices[0][:100], voices[0][:100]) == (None, None)


@pytest.mark.skipif(not HAS_VOICES, reason="needs the weights of resemblyzer")
@pytest.mark.parametrize(
    ("other", "similarity"),
    [
        ("clip02_am_michael", 0.51422),
        ("clip03_bf_emma", 0.62307),
        ("clip05_af_heart", 0.94731),  # the same voice
        ("clip08_bm_george", 0.45729),
    ],
)
def test_voices_as_resemblyzer_compares_them(other, similarity) -> None:
    """Resemblyzer's own code with librosa gave these, each clip at its level and untrimmed."""
    voice, compared = (load_audio(CLIPS / f"{n}.flac") for n in ("clip01_af_heart", other))
    assert speaker_similarity(voice, compared) == pytest.approx(similarity, abs=1e-3)
    assert speaker_similarity(voice, 3 * compared) == pytest.approx(similarity, abs=0.1)
    assert 0 <= speaker_similarity(voice, compared[:1_000]) <= 1


def test_what_cannot_be_scored(clip) -> None:
    silence, short = np.zeros(32_000, np.float32), clip[:2_000]
    scores = listening_scores([silence, short, clip], lambda c: c)
    assert scores["listening_clips"] == 1
    assert listening_scores([silence], lambda c: c)["stoi"] is None
    assert listening_scores([clip], lambda c: None)["estoi"] is None
    with pytest.raises(VqasrError, match="decoded audio has 2000 samples"):
        listening_scores([clip], lambda c: c[:2_000])


def test_packages_that_are_missing(monkeypatch, caplog) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        listening.importlib.util, "find_spec", lambda n: None if n == "pesq" else find(n)
    )
    others = ["stoi", "estoi", "f0_error_cents", "voicing_error"]
    assert measures_available() == [*others, *(["speaker_similarity"] if HAS_VOICES else [])]
    assert "pesq is not installed" in caplog.text
    monkeypatch.setattr(listening.importlib.util, "find_spec", lambda n: None)
    with pytest.raises(VqasrError, match=r"vqasr\[listening\]"):
        measures_available()
    load_voice_encoder.cache_clear()
    with pytest.raises(VqasrError, match="pip install --no-deps resemblyzer"):
        load_voice_encoder()


def test_in_an_evaluation(codec, tmp_path) -> None:
    training_data(tmp_path)
    data = str(tmp_path / "speech.parquet")
    settings = {"systems": "vqasr:2,text", "asr": "ctc-small", "codec": codec, "limit": 2}
    before = evaluate(data, tmp_path / "out", **settings)[""][0]
    assert before["stoi"] is None
    first = evaluate(data, tmp_path / "out", **settings, listening=1)[""][0]
    assert 0.2 < first["stoi"] < 0.95
    assert first["wer"] == before["wer"]
    saved = json.loads((tmp_path / "out" / "systems" / "vqasr-2.json").read_text())["row"]
    assert saved["stoi"] == first["stoi"]
    assert spread(list(range(10)), 4) == [0, 3, 6, 9]
