"""Neural codecs of transformers, small and with random weights: bitrate and shapes."""

import numpy as np
import pytest
from transformers import (
    DacConfig,
    DacFeatureExtractor,
    DacModel,
    EncodecConfig,
    EncodecFeatureExtractor,
    EncodecModel,
    MimiConfig,
    MimiModel,
    Wav2Vec2BertConfig,
    Xcodec2Config,
    Xcodec2FeatureExtractor,
    Xcodec2Model,
)

from vqasr.errors import VqasrError
from vqasr.evaluation.classical import UnavailableError
from vqasr.evaluation.neural import NeuralCodec
from vqasr.evaluation.report import write_report
from vqasr.evaluation.run import ResultsFolder, evaluate_system, with_statistics
from vqasr.evaluation.system_names import expand_systems, make_system
from vqasr.evaluation.systems import AudioSystem

SAMPLES = np.sin(np.arange(16_000 * 3 // 2) / 9).astype(np.float32)


def encodec(folder) -> float:
    config = EncodecConfig(num_filters=4, hidden_size=16, codebook_dim=16, num_lstm_layers=1)
    EncodecModel(config).save_pretrained(folder)
    EncodecFeatureExtractor(sampling_rate=24_000).save_pretrained(folder)
    return 750.0


def dac(folder) -> float:
    config = DacConfig(
        encoder_hidden_size=8, decoder_hidden_size=64, hidden_size=128, n_codebooks=3
    )
    DacModel(config).save_pretrained(folder)
    DacFeatureExtractor(sampling_rate=16_000, hop_length=config.hop_length).save_pretrained(folder)
    return 10 * config.frame_rate


def mimi(folder) -> float:
    config = MimiConfig(
        hidden_size=32, num_filters=4, num_hidden_layers=1, intermediate_size=32, head_dim=8,
        num_attention_heads=4, num_key_value_heads=4, codebook_dim=16,
        vector_quantization_hidden_dimension=16, num_quantizers=4, upsample_groups=32,
    )  # fmt: skip
    MimiModel(config).save_pretrained(folder)
    EncodecFeatureExtractor(sampling_rate=24_000).save_pretrained(folder)
    return 11 * 12.5


def xcodec2(folder) -> float:
    semantic = Wav2Vec2BertConfig(
        num_hidden_layers=1, hidden_size=32, intermediate_size=32, num_attention_heads=4
    )
    config = Xcodec2Config(
        hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=4, head_dim=8, encoder_hidden_size=4, quantization_dim=64,
        semantic_model_config=semantic.to_dict(),
    )  # fmt: skip
    Xcodec2Model(config).save_pretrained(folder)
    Xcodec2FeatureExtractor().save_pretrained(folder)
    return 16 * 50.0


def test_one_codebook(tmp_path) -> None:
    bps = xcodec2(tmp_path)
    size, decoded = NeuralCodec(f"hf:{tmp_path}@{bps:g}")(SAMPLES)
    assert 8 * size / (len(SAMPLES) / 16_000) == pytest.approx(bps, rel=0.1)
    assert decoded.shape == SAMPLES.shape
    assert np.isfinite(decoded).all()


def test_random_weights_have_a_bitrate_and_no_text(tmp_path, codec, recogniser) -> None:
    encodec(tmp_path)
    (tmp_path / "model.safetensors").unlink()  # the sizes are enough
    name = f"random:{tmp_path}@1500"
    assert expand_systems(f"pcm,{name}", codec) == ["pcm", name]
    row, hypotheses = evaluate_system(
        make_system(name, codec, recogniser), [SAMPLES, SAMPLES], ["one", "two"], 2, lambda _: None
    )
    assert hypotheses == []
    assert row["wer"] is None
    assert row["coded_bps"] == pytest.approx(1500, rel=0.1)
    assert row["encode_rtf"] > 0
    folder = ResultsFolder(tmp_path / "out", {})
    folder.add(row, ["one", "two"], hypotheses)
    assert folder.finished(name) == (row, [])
    rows = with_statistics([row], ["one", "two"], [hypotheses])
    assert rows[0]["delta_wer"] is None
    write_report(tmp_path / "report.html", "speed", rows, [], ["one", "two"], [hypotheses], {})
    for other in ("nothing@1500", "whisper"):
        with pytest.raises(VqasrError, match=r"no such codec|is not a codec with codes"):
            NeuralCodec(f"random:{other}")


def test_default_sizes_of_transformers() -> None:
    for name, n in (("encodec@1500", 2), ("mimi@1100", 8)):
        codec = NeuralCodec(f"random:{name}")
        assert codec._encode(np.zeros(24_000, np.float32), n).shape[0] == n
        assert codec._num_quantizers == n


@pytest.mark.parametrize("make", [encodec, dac, mimi])
def test_bytes_match_the_rate(make, tmp_path) -> None:
    each_bps = make(tmp_path)
    one, two = (NeuralCodec(f"hf:{tmp_path}@{n * each_bps:g}")(SAMPLES)[0] for n in (1, 2))
    seconds = len(SAMPLES) / 16_000
    assert 8 * one / seconds == pytest.approx(each_bps, rel=0.1)  # the last frame counts whole
    assert two == pytest.approx(2 * one, abs=2)
    size, decoded = NeuralCodec(f"hf:{tmp_path}")(SAMPLES)
    assert size > two
    assert decoded.shape == SAMPLES.shape
    assert decoded.dtype == np.float32
    assert np.isfinite(decoded).all()
    with pytest.raises(VqasrError, match="no such rate"):
        NeuralCodec(f"hf:{tmp_path}@{1.5 * each_bps:g}")


def test_as_a_system(tmp_path, codec, recogniser) -> None:
    encodec(tmp_path)
    name = f"hf:{tmp_path}@1500"
    assert expand_systems(f"pcm,{name}", codec) == ["pcm", name]
    system = make_system(name, codec, recogniser)
    assert isinstance(system, AudioSystem)
    assert system.decode(SAMPLES).shape == SAMPLES.shape


def test_a_missing_checkpoint_or_not_a_codec(tmp_path, recogniser) -> None:
    with pytest.raises(UnavailableError, match="cannot be loaded"):
        NeuralCodec("hf:nobody/nothing@1500")
    recogniser.whisper.model.save_pretrained(tmp_path)
    recogniser.whisper.feature_extractor.save_pretrained(tmp_path)
    with pytest.raises(VqasrError, match="is not a codec with codes"):
        NeuralCodec(f"hf:{tmp_path}")
