"""Whisper of every shape computes the same from codes as from a spectrogram."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForSpeechSeq2Seq,
    AutoProcessor,
    GenerationConfig,
    WhisperConfig,
    WhisperForConditionalGeneration,
)
from transformers.models.whisper.modeling_whisper import WhisperDecoderLayer

from vqasr.adapters.code_features import CodesFeatureExtractor
from vqasr.adapters.embedder import CodeEmbedder, CodeEmbedderConfig
from vqasr.adapters.processor import CodesProcessor
from vqasr.adapters.whisper import (
    VQWhisperForConditionalGeneration,
    fast_suppression,
    to_features,
)
from vqasr.assets import CLIPS
from vqasr.compression.compress import compress, encode_audio
from vqasr.errors import AudioError

# (encoder layers, decoder layers, mel bands, vocabulary): tiny.en, base, small, medium, large-v3,
# large-v3-turbo. Widths are cut down, and deep ones to a quarter.
SHAPES = {
    "tiny.en": (4, 4, 80, 51864),
    "base": (6, 6, 80, 51865),
    "small": (12, 12, 80, 51865),
    "medium": (6, 6, 80, 51865),
    "large-v3": (8, 8, 128, 51866),
    "turbo": (8, 4, 128, 51866),
}
ENGLISH, GERMAN, TRANSCRIBE, TRANSLATE, NO_TIMES, START, END = 100, 101, 102, 103, 104, 105, 106


class StockStem(nn.Module):
    """Return the output of stock Whisper's convolutions on a spectrogram, for any codes."""

    def __init__(self, whisper: WhisperForConditionalGeneration, mel: Tensor):
        super().__init__()
        encoder = whisper.model.encoder
        hidden = nn.functional.gelu(encoder.conv1(mel))
        self.embeddings = nn.functional.gelu(encoder.conv2(hidden)).transpose(1, 2)
        self.config = CodeEmbedderConfig(3, 16, 4, embed_dim=whisper.config.d_model)

    def forward(self, codes: Tensor) -> Tensor:
        # The first code of an item is the index of its spectrogram.
        return self.embeddings[codes[:, 0, 0]]

    def speech_probability(self, codes: Tensor) -> Tensor:
        return torch.ones(len(codes), codes.shape[-1])


def random_whisper(shape: str, width: int = 32) -> WhisperForConditionalGeneration:
    encoder_layers, decoder_layers, mels, vocabulary = SHAPES[shape]
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=vocabulary, num_mel_bins=mels, d_model=width, encoder_layers=encoder_layers,
        decoder_layers=decoder_layers, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=64, decoder_ffn_dim=64, pad_token_id=END, bos_token_id=END,
        eos_token_id=END, decoder_start_token_id=START,
    )  # fmt: skip
    return WhisperForConditionalGeneration(config).eval()


def both(
    shape: str,
) -> tuple[WhisperForConditionalGeneration, VQWhisperForConditionalGeneration, Tensor, Tensor]:
    """Make a stock Whisper and its view on codes, with a batch of two for each."""
    stock = random_whisper(shape)
    mel = torch.randn(2, stock.config.num_mel_bins, 3000)
    codes = VQWhisperForConditionalGeneration.from_base(stock, StockStem(stock, mel), b"codec!")
    return stock, codes, mel, to_features(torch.tensor([0, 1])[:, None, None].expand(2, 3, 50))


def test_frozen_weights_stay_frozen() -> None:
    stock = random_whisper("base").requires_grad_(False)
    stem = StockStem(stock, torch.randn(1, 80, 3000))
    codes = VQWhisperForConditionalGeneration.from_base(stock, stem, b"codec!")
    assert not any(parameter.requires_grad for parameter in codes.parameters())
    stock.requires_grad_(True)
    codes = VQWhisperForConditionalGeneration.from_base(stock, stem, b"codec!")
    assert codes.model.decoder.layers[0].fc1.weight.requires_grad
    assert stock.model.decoder.layers[0].fc1.weight.requires_grad


@torch.no_grad()
@pytest.mark.parametrize("shape", SHAPES)
def test_logits_are_those_of_stock_whisper(shape) -> None:
    stock, codes, mel, features = both(shape)
    tokens = torch.randint(0, 90, (2, 7))
    torch.testing.assert_close(
        codes(input_features=features, decoder_input_ids=tokens).logits,
        stock(input_features=mel, decoder_input_ids=tokens).logits,
    )


@torch.no_grad()
@pytest.mark.parametrize(
    "settings",
    [
        {"language": "de", "task": "translate"},
        {"task": "transcribe"},  # the language is found by Whisper itself
        {"language": "en", "num_beams": 3},
        {"language": "en", "temperature": (0.0, 0.4, 0.8), "logprob_threshold": 0.0},
        {"language": "en", "num_beams": 2, "num_return_sequences": 2},
    ],
    ids=["translation", "language", "beams", "fallback", "several"],
)
def test_generation_is_that_of_stock_whisper(settings) -> None:
    stock, codes, mel, features = both("base")
    stock.generation_config = codes.generation_config = GenerationConfig(
        is_multilingual=True, lang_to_id={"<|en|>": ENGLISH, "<|de|>": GERMAN},
        task_to_id={"transcribe": TRANSCRIBE, "translate": TRANSLATE},
        no_timestamps_token_id=NO_TIMES, decoder_start_token_id=START, eos_token_id=END,
        pad_token_id=END, max_length=12, prev_sot_token_id=99,
    )  # fmt: skip
    torch.manual_seed(1)
    expected = stock.generate(mel, **settings)
    torch.manual_seed(1)
    assert torch.equal(codes.generate(features, **settings), expected)
    assert expected.shape[1] > 3


def test_the_stock_model_keeps_its_own_parts() -> None:
    stock, codes, _, _ = both("tiny.en")
    assert hasattr(stock.model.encoder.conv1, "weight")
    layers = stock.model.decoder.layers
    assert all(type(layer) is WhisperDecoderLayer for layer in layers)
    assert not any(layer._forward_pre_hooks for layer in layers)
    mine, its = codes.state_dict(keep_vars=True), stock.state_dict(keep_vars=True)
    shared = [name for name in its if ".conv" not in name]
    assert all(mine[name] is its[name] for name in shared)  # shared, not copied
    assert codes.proj_out.weight is codes.model.decoder.embed_tokens.weight


def test_saved_and_loaded_by_the_auto_classes(tmp_path, codec, recogniser, clips) -> None:
    model = recogniser.model
    processor = CodesProcessor(
        CodesFeatureExtractor(num_quantizers=4), recogniser.whisper.tokenizer
    )
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = AutoModelForSpeechSeq2Seq.from_pretrained(tmp_path)
    assert type(loaded) is VQWhisperForConditionalGeneration
    assert loaded.config.codec_fingerprint == codec.fingerprint().hex()
    again = AutoProcessor.from_pretrained(tmp_path)
    assert type(again) is CodesProcessor
    inputs = again(
        [c.samples for c in clips[:2]], text=[c.text for c in clips[:2]], sampling_rate=16_000
    )
    assert len(inputs["labels"]) == 2
    ids = loaded.generate(inputs["input_features"], num_beams=1)
    texts = again.batch_decode(ids, skip_special_tokens=True)
    codes = [encode_audio(codec, c.samples, 4) for c in clips[:2]]
    assert [text.strip() for text in texts] == recogniser.transcribe_codes(codes)

    # In another process any import of vqasr.adapters is enough.
    script = (
        "import vqasr.adapters, transformers as t; "
        f"model = t.AutoModelForSpeechSeq2Seq.from_pretrained({str(tmp_path)!r}); "
        f"processor = t.AutoProcessor.from_pretrained({str(tmp_path)!r}); "
        f"ids = model.generate(**processor({str(CLIPS / 'clip01_af_heart.flac')!r})); "
        "print(processor.batch_decode(ids, skip_special_tokens=True)[0])"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.stdout.strip() == texts[0].strip(), run.stderr


def test_suppressed_tokens_are_those_of_stock_whisper() -> None:
    stock, codes, mel, features = both("tiny.en")
    config = GenerationConfig(
        decoder_start_token_id=START, eos_token_id=END, pad_token_id=END, max_length=12,
        no_timestamps_token_id=NO_TIMES, suppress_tokens=list(range(0, 40_000, 2)),
        begin_suppress_tokens=[END], is_multilingual=False,
    )  # fmt: skip
    stock.generation_config = config
    codes.generation_config = fast_suppression(config)
    assert codes.generation_config.suppress_tokens is None
    expected = stock.generate(mel)
    assert torch.equal(codes.generate(features), expected)
    assert (expected[:, 1:] % 2 == 1).any()


def reader_of_codes() -> tuple[VQWhisperForConditionalGeneration, Tensor, Tensor]:
    """Make a small random model that reads without padding, two clips of codes, and tokens."""
    stock = random_whisper("tiny.en")
    sizes = CodeEmbedderConfig(3, 16, 4, 32, hidden_size=16, num_layers=1, num_closing_frames=4)
    model = VQWhisperForConditionalGeneration.from_base(stock, CodeEmbedder(sizes), b"codec!")
    codes = torch.randint(0, 16, (2, 3, 50))
    codes[1, :, 20:] = -1  # the second is shorter
    return model.eval(), codes, torch.randint(0, 90, (2, 7))


@torch.no_grad()
def test_a_copy_has_its_own_mask() -> None:
    model, codes, tokens = reader_of_codes()
    twin = copy.deepcopy(model)
    batch = {"input_features": to_features(codes), "decoder_input_ids": tokens}
    expected = model(**batch).logits
    model(input_features=to_features(codes[:1]), decoder_input_ids=tokens[:1])
    torch.testing.assert_close(twin(**batch).logits, expected)
    pickle.loads(pickle.dumps(model))  # as workers and Ray send models


@torch.no_grad()
def test_states_that_were_computed_before_keep_their_mask() -> None:
    model, codes, tokens = reader_of_codes()
    states = model.get_encoder()(to_features(codes))
    expected = model(input_features=to_features(codes), decoder_input_ids=tokens).logits
    model(input_features=to_features(codes[:1, :, :9]), decoder_input_ids=tokens[:1])
    again = model(encoder_outputs=states, decoder_input_ids=tokens).logits
    torch.testing.assert_close(again, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype) -> None:
    model, codes, tokens = reader_of_codes()
    batch = {"input_features": to_features(codes), "decoder_input_ids": tokens}
    with torch.no_grad():
        expected = model(**batch).logits
        with torch.autocast("cpu", torch.bfloat16):
            assert model(**batch).logits.isfinite().all()
        model.to(dtype)
        torch.testing.assert_close(model(**batch).logits.float(), expected, atol=0.05, rtol=0.1)


def test_freezing_the_encoder() -> None:
    model, codes, tokens = reader_of_codes()
    model.freeze_encoder()
    model(input_features=to_features(codes), labels=tokens).loss.backward()
    assert all(p.grad is None for p in model.get_encoder().parameters())
    assert model.model.decoder.layers[0].fc1.weight.grad is not None


def test_extractor_reads_files_and_streams(tmp_path, clips) -> None:
    stream, extractor = compress(clips[0].samples, num_quantizers=2), CodesFeatureExtractor()
    stream.save(tmp_path / "clip.vqs")
    data = stream.to_bytes()
    for source in (stream, tmp_path / "clip.vqs", data, bytearray(data), memoryview(data)):
        np.testing.assert_array_equal(extractor.codes(source), stream.codes)
    (tmp_path / "bad.wav").write_bytes(b"no audio at all")
    for name in ("bad.wav", "missing.wav"):
        with pytest.raises(AudioError, match=name):
            extractor.codes(tmp_path / name)
