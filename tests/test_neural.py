"""Neural codecs of transformers: small ones with random weights, for what they cost."""

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
)

from vqasr.classical import UnavailableError
from vqasr.errors import VqasrError
from vqasr.neural import NeuralCodec
from vqasr.system_names import expand_systems, make_system
from vqasr.systems import AudioSystem

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


@pytest.mark.parametrize("make", [encodec, dac, mimi])
def test_bytes_are_what_the_rate_says(make, tmp_path) -> None:
    each_bps = make(tmp_path)
    one, two = (NeuralCodec(f"hf:{tmp_path}@{n * each_bps:g}")(SAMPLES)[0] for n in (1, 2))
    seconds = len(SAMPLES) / 16_000
    assert 8 * one / seconds == pytest.approx(each_bps, rel=0.1)  # the last frame counts whole
    assert two == pytest.approx(2 * one, abs=2)
    size, heard = NeuralCodec(f"hf:{tmp_path}")(SAMPLES)
    assert size > two
    assert heard.shape == SAMPLES.shape
    assert heard.dtype == np.float32
    assert np.isfinite(heard).all()
    with pytest.raises(VqasrError, match="no such rate; there are"):
        NeuralCodec(f"hf:{tmp_path}@{1.5 * each_bps:g}")


def test_as_a_system(tmp_path, codec, recogniser) -> None:
    encodec(tmp_path)
    name = f"hf:{tmp_path}@1500"
    assert expand_systems(f"pcm,{name}", codec) == ["pcm", name]
    system = make_system(name, codec, recogniser)
    assert isinstance(system, AudioSystem)
    assert system.sound(SAMPLES).shape == SAMPLES.shape


def test_what_is_not_there_or_no_codec(tmp_path, recogniser) -> None:
    with pytest.raises(UnavailableError, match="cannot be loaded here"):
        NeuralCodec("hf:nobody/nothing@1500")
    recogniser.recogniser.model.save_pretrained(tmp_path)
    recogniser.recogniser.feature_extractor.save_pretrained(tmp_path)
    with pytest.raises(VqasrError, match="is no codec with codes"):
        NeuralCodec(f"hf:{tmp_path}")
