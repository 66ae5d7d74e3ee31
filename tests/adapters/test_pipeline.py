"""transformers' pipeline over codes."""

import json

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCTC,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    pipeline,
)

from vqasr import VQCodecModel
from vqasr.adapters.code_features import CodesFeatureExtractor
from vqasr.adapters.ctc import VQWav2Vec2ForCTC
from vqasr.adapters.embedder import CodeEmbedder, CodeEmbedderConfig
from vqasr.adapters.pipeline import CodesPipeline
from vqasr.assets import CLIPS
from vqasr.compression.compress import compress, encode_audio
from vqasr.errors import AudioError, CodecMismatchError, InvalidCodesError, VqasrError
from vqasr.evaluation.error_rates import word_errors

TASK = "automatic-speech-recognition"


@pytest.fixture(scope="module")
def features() -> CodesFeatureExtractor:
    return CodesFeatureExtractor("vqasr-base", num_quantizers=4)


@pytest.fixture(scope="module")
def whisper(recogniser, features):
    return pipeline(
        TASK, model=recogniser.model, tokenizer=recogniser.whisper.tokenizer,
        feature_extractor=features, pipeline_class=CodesPipeline,
    )  # fmt: skip


@pytest.fixture(scope="module")
def ctc(codec, features, tmp_path_factory):
    torch.manual_seed(0)
    letters = ["<pad>", "<unk>", "|", *"abcdefghijklmnopqrstuvwxyz"]
    path = tmp_path_factory.mktemp("vocab") / "vocab.json"
    path.write_text(json.dumps({letter: i for i, letter in enumerate(letters)}))
    config = Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, vocab_size=len(letters),
    )  # fmt: skip
    sizes = (codec.config.num_quantizers, codec.config.codebook_size, codec.config.latent_dim, 32)
    model = VQWav2Vec2ForCTC.from_base(
        AutoModelForCTC.from_config(config), CodeEmbedder(CodeEmbedderConfig(*sizes)),
        codec.fingerprint(),
    )  # fmt: skip
    return pipeline(
        TASK, model=model.eval(), feature_extractor=features, pipeline_class=CodesPipeline,
        tokenizer=Wav2Vec2CTCTokenizer(path, bos_token=None, eos_token=None),
    )  # fmt: skip


def test_all_kinds_of_input_have_the_same_text(
    whisper, ctc, recogniser, codec, clips, tmp_path
) -> None:
    samples = clips[0].samples
    path = CLIPS / "clip01_af_heart.flac"
    stream = compress(samples, codec=codec).to_bytes()
    (tmp_path / "clip.vqs").write_bytes(stream)
    ways = [
        samples, torch.from_numpy(samples), {"raw": samples, "sampling_rate": 16_000},
        {"array": samples, "sampling_rate": 16_000}, str(path), path.read_bytes(), stream,
        str(tmp_path / "clip.vqs"),
    ]  # fmt: skip
    assert len({ctc(way)["text"] for way in ways}) == 1
    texts = {whisper(way, generate_kwargs={"num_beams": 1})["text"].strip() for way in ways[-2:]}
    assert texts == set(recogniser.transcribe_codes([encode_audio(codec, samples, 4)]))


def test_a_batch_is_its_items(whisper, clips) -> None:
    sounds = [c.samples for c in clips[:2]]
    settings = {"generate_kwargs": {"num_beams": 1}}
    together = whisper(sounds, batch_size=2, **settings)
    assert together == [whisper(sound, **settings) for sound in sounds]


@pytest.fixture(scope="module")
def long_result(whisper, long_clip) -> dict:
    return whisper(long_clip.samples, return_timestamps=True, generate_kwargs={"num_beams": 1})


@pytest.mark.parametrize("chunked", [False, True])
def test_long_recordings_have_times(whisper, long_clip, long_result, chunked) -> None:
    result = long_result
    if chunked:
        settings = {"return_timestamps": True, "generate_kwargs": {"num_beams": 1}}
        result = whisper(long_clip.samples, chunk_length_s=30, ignore_warning=True, **settings)
    errors, words = word_errors([long_clip.text], [result["text"]])
    assert errors / words < 0.2, result["text"]
    times = [t for chunk in result["chunks"] for t in chunk["timestamp"]]
    assert times == sorted(times)
    assert 30 < times[-1] <= len(long_clip.samples) / 16_000 + 0.04


def test_a_batch_of_long_and_short_is_its_items(whisper, clips, long_clip, long_result) -> None:
    sounds = [long_clip.samples, clips[0].samples]
    settings = {"return_timestamps": True, "generate_kwargs": {"num_beams": 1}}
    together = whisper(sounds, batch_size=2, **settings)
    alone = [long_result, whisper(sounds[1], **settings)]
    assert [r["text"].split() for r in together] == [r["text"].split() for r in alone]


def test_words_have_times(whisper, clips) -> None:
    result = whisper(clips[0].samples, return_timestamps="word", generate_kwargs={"num_beams": 1})
    words = [chunk["text"].strip() for chunk in result["chunks"]]
    assert words == result["text"].split()
    starts = [chunk["timestamp"][0] for chunk in result["chunks"]]
    assert starts == sorted(starts)
    # Segments could extend into the padding after the speech.
    assert result["chunks"][-1]["timestamp"][1] <= len(clips[0].samples) / 16_000 + 0.04


def test_ctc_words_have_times(ctc, clips) -> None:
    result = ctc(clips[0].samples, return_timestamps="word")
    assert "".join(result["text"].split()) == "".join(c["text"] for c in result["chunks"])
    times = [t for chunk in result["chunks"] for t in chunk["timestamp"]]
    assert times == sorted(times)
    assert times[-1] <= len(clips[0].samples) / 16_000 + 0.04


def test_codes_of_another_codec_are_refused(recogniser, small_config, tmp_path) -> None:
    VQCodecModel(small_config).save_pretrained(tmp_path)
    with pytest.raises(CodecMismatchError, match=recogniser.codec_fingerprint.hex()):
        CodesPipeline(
            recogniser.model, tokenizer=recogniser.whisper.tokenizer,
            feature_extractor=CodesFeatureExtractor(str(tmp_path)),
        )  # fmt: skip


def test_ctc_batches_and_chunks(ctc, codec, clips, long_clip) -> None:
    sounds = [c.samples for c in clips[:3]]
    assert ctc(sounds, batch_size=3) == [ctc(sound) for sound in sounds]
    whole = ctc(long_clip.samples, return_timestamps="char")
    parts = ctc(
        long_clip.samples, chunk_length_s=20, stride_length_s=(4, 3), batch_size=2,
        return_timestamps="char",
    )  # fmt: skip
    # An untrained network writes characters everywhere, in chunks nearly the same ones.
    assert len(whole["chunks"]) > 20
    times = {(c["text"], c["timestamp"]) for c in whole["chunks"]}
    again = {(c["text"], c["timestamp"]) for c in parts["chunks"]}
    assert len(times & again) > 0.8 * len(times)


def test_a_ctc_folder_is_a_model_like_any_other(ctc, clips, tmp_path) -> None:
    for part in (ctc.model, ctc.tokenizer, ctc.feature_extractor):
        part.save_pretrained(tmp_path)
    loaded = pipeline(TASK, model=str(tmp_path), pipeline_class=CodesPipeline)
    assert type(loaded.model) is VQWav2Vec2ForCTC
    assert loaded(clips[0].samples) == ctc(clips[0].samples)


def test_stock_models_are_left_alone(whisper, ctc, recogniser, clips) -> None:
    base = recogniser.whisper
    stock = pipeline(
        TASK, model=base.model, tokenizer=base.tokenizer, feature_extractor=base.feature_extractor
    )
    assert type(stock) is not CodesPipeline
    text = stock(clips[0].samples.copy(), generate_kwargs={"num_beams": 1})["text"].strip()
    assert text == base.transcribe_audio([clips[0].samples])[0]
    plain = AutoModelForCTC.from_config(
        Wav2Vec2Config(
            hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
            num_conv_pos_embedding_groups=2,
        )
    ).eval()  # fmt: skip
    assert type(plain).__name__ == "Wav2Vec2ForCTC"
    inputs = Wav2Vec2FeatureExtractor()(clips[0].samples, sampling_rate=16_000, return_tensors="pt")
    assert plain(**inputs).logits.shape[0] == 1


def test_the_feature_extractor_saves_its_settings(features, tmp_path) -> None:
    features.save_pretrained(tmp_path)
    again = CodesFeatureExtractor.from_pretrained(tmp_path)
    assert (again.codec, again.num_quantizers) == ("vqasr-base", 4)
    assert "_model" not in (tmp_path / "preprocessor_config.json").read_text()


def test_errors(whisper, features, clips, codec) -> None:
    with pytest.raises(AudioError, match="sampling_rate and raw"):
        features.codes({"raw": clips[0].samples})
    with pytest.raises(AudioError, match="16,000 Hz"):
        features(clips[0].samples, sampling_rate=8_000)
    with pytest.raises(AudioError):
        whisper(np.full(16_000, np.nan, np.float32))
    with pytest.raises(InvalidCodesError, match="holds 2 codebooks"):
        features.codes(compress(clips[0].samples, codec=codec, num_quantizers=2).to_bytes())
    damaged = bytearray(compress(clips[0].samples, codec=codec, num_quantizers=4).to_bytes())
    damaged[200] ^= 1
    with pytest.raises(VqasrError):
        whisper(bytes(damaged))
    with pytest.raises(VqasrError, match="leaves nothing"):
        whisper(clips[0].samples, chunk_length_s=1, stride_length_s=1, ignore_warning=True)
