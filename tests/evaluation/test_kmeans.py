"""K-means tokens of Whisper's states, the baseline without training."""

import pytest
import torch

from vqasr.errors import RecogniserError, VqasrError
from vqasr.evaluation.error_rates import word_errors
from vqasr.evaluation.kmeans import KMeansTokens
from vqasr.evaluation.system_names import expand_systems, make_system
from vqasr.evaluation.systems import KMeansSystem


@pytest.fixture(scope="module")
def tokens(recogniser, clips) -> KMeansTokens:
    return KMeansTokens.fit(recogniser.whisper, [c.samples for c in clips[:2]], 200)


def test_through_a_file_as_a_system(tokens, recogniser, codec, clips, tmp_path) -> None:
    path = tmp_path / "centres.safetensors"
    tokens.save(path)
    name = f"kmeans:{path}"
    assert expand_systems(name, codec) == [name]
    system = make_system(name, codec, recogniser)
    assert isinstance(system, KMeansSystem)
    output = system.run([clip.samples for clip in clips[:2]], 2)
    for size, clip in zip(output.stream_bytes, clips, strict=False):
        states = -(-len(clip.samples) // 320)
        assert size == -(-states * 8 // 8)  # 200 centres: 8 bits each
    texts = [clip.text for clip in clips[:2]]
    errors, words = word_errors(texts, output.texts)
    assert errors < words  # speech it was fitted to, 200 centres: some words are right
    assert output.encode_s > 0
    assert output.asr_s > 0
    # The recogniser is unchanged.
    errors, words = word_errors(texts[:1], recogniser.transcribe_audio([clips[0].samples]))
    assert errors < 0.1 * words


def test_a_centre_for_every_state_changes_nothing(recogniser, clips) -> None:
    clip = clips[0].samples
    whisper = recogniser.whisper
    features = whisper.feature_extractor(clip, sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        states = whisper.model.model.encoder(features.input_features).last_hidden_state[0]
    texts, _, _, _ = KMeansTokens(whisper, states.clone()).transcribe([clip])
    assert texts == recogniser.transcribe_audio([clip])


def test_errors(tokens, recogniser, clips, tmp_path) -> None:
    with pytest.raises(RecogniserError, match="too few for 9999 centres"):
        KMeansTokens.fit(recogniser.whisper, [clips[0].samples], 9999)
    with pytest.raises(RecogniserError, match="no centres can be read"):
        KMeansTokens.load(tmp_path / "none", recogniser.whisper)
    other = type(recogniser.whisper)(
        "other", None, recogniser.whisper.feature_extractor, recogniser.whisper.tokenizer
    )
    other.fingerprint = lambda: b"123456"
    tokens.save(tmp_path / "centres")
    with pytest.raises(RecogniserError, match="fitted to another recogniser"):
        KMeansTokens.load(tmp_path / "centres", other)
    with pytest.raises(VqasrError, match="only a Whisper"):
        KMeansSystem("kmeans:x", object())
