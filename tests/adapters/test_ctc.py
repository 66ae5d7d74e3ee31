"""Wav2Vec2-style models that read codes."""

import copy
import json

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCTC,
    HubertConfig,
    Wav2Vec2BertConfig,
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    WavLMConfig,
)

from vqasr.adapters import load_recogniser
from vqasr.adapters.adapter import CodesAdapter
from vqasr.adapters.code_features import CodesFeatureExtractor
from vqasr.adapters.ctc import VQWav2Vec2ForCTC, base_fingerprint
from vqasr.adapters.ctc_recogniser import CTCRecogniser, group_words
from vqasr.adapters.embedder import CodeEmbedder, CodeEmbedderConfig
from vqasr.adapters.segments import Segment
from vqasr.codec.int8_weights import INT8_FILE
from vqasr.compression.compress import compress, encode_audio
from vqasr.errors import CodecMismatchError, InvalidCodesError, RecogniserError
from vqasr.stream.stream import Stream

SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
    "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2, "vocab_size": 12,
    "conv_dim": (16,) * 7, "layerdrop": 0.0,
}  # fmt: skip
CONFIGS = {
    "wav2vec2": Wav2Vec2Config(**SIZES),
    "wav2vec2-large": Wav2Vec2Config(**SIZES, do_stable_layer_norm=True, feat_extract_norm="layer"),
    "hubert": HubertConfig(**SIZES),
    "hubert-large": HubertConfig(**SIZES, do_stable_layer_norm=True, feat_extract_norm="layer"),
    "wavlm": WavLMConfig(**SIZES),
    "wavlm-large": WavLMConfig(**SIZES, do_stable_layer_norm=True, feat_extract_norm="layer"),
}
LETTERS = dict(zip(["<pad>", "<unk>", "|", *"aehilnrst"], range(12), strict=True))


def embedder(codec, width: int = 32) -> CodeEmbedder:
    sizes = CodeEmbedderConfig(
        codec.config.num_quantizers, codec.config.codebook_size, codec.config.latent_dim, width,
        hidden_size=32, num_layers=1,
    )  # fmt: skip
    made = CodeEmbedder(sizes)
    made.quantizer.load_state_dict(codec.quantizer.state_dict())
    return made


@pytest.fixture(params=CONFIGS)
def base(request):
    torch.manual_seed(0)
    return AutoModelForCTC.from_config(CONFIGS[request.param]).eval()


@pytest.fixture
def model(codec) -> VQWav2Vec2ForCTC:
    torch.manual_seed(0)
    base = AutoModelForCTC.from_config(CONFIGS["wav2vec2"])
    return VQWav2Vec2ForCTC.from_base(base, embedder(codec), codec.fingerprint()).eval()


@pytest.fixture
def tokenizer(tmp_path) -> Wav2Vec2CTCTokenizer:
    (tmp_path / "vocab.json").write_text(json.dumps(LETTERS))
    return Wav2Vec2CTCTokenizer(tmp_path / "vocab.json", bos_token=None, eos_token=None)


def batch_of(codes: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad with any code to (batch, frames, n), and return the mask too."""
    longest = max(c.shape[1] for c in codes)
    values = torch.full((len(codes), longest, len(codes[0])), 7)
    mask = torch.zeros(len(codes), longest)
    for row, (value, c) in enumerate(zip(values, codes, strict=True)):
        value[: c.shape[1]] = torch.from_numpy(c).T
        mask[row, : c.shape[1]] = 1
    return values, mask


@torch.no_grad()
def test_codes_enter_behind_the_feature_projection(base, codec, clips) -> None:
    """The model maps the base's own projected features to the base's logits."""
    before = {name: value.clone() for name, value in base.state_dict().items()}
    model = VQWav2Vec2ForCTC.from_base(base, embedder(codec), codec.fingerprint())
    samples = torch.from_numpy(clips[0].samples[:32_000])[None]
    inner = getattr(base, base.base_model_prefix)
    projected = inner.feature_projection(inner.feature_extractor(samples).transpose(1, 2))
    projected = projected[0] if isinstance(projected, tuple) else projected
    exists = torch.ones(projected.shape[:2], dtype=torch.bool)
    model.embedder.close = lambda codes: (projected.clone(), exists)
    codes = torch.zeros(1, 50, 2, dtype=torch.long)
    torch.testing.assert_close(model(codes).logits, base(samples).logits, atol=1e-5, rtol=1e-4)
    for name, value in base.state_dict().items():
        assert torch.equal(value, before[name]), name


@torch.no_grad()
def test_a_batch_is_its_items(base, codec, clips) -> None:
    model = VQWav2Vec2ForCTC.from_base(base, embedder(codec), codec.fingerprint())
    codes = [encode_audio(codec, c.samples, 2) for c in clips[:3]]
    values, mask = batch_of(codes)
    together = model(values, mask).logits
    for row, c in zip(together, codes, strict=True):
        alone = model(torch.from_numpy(c).T[None]).logits[0]
        assert len(alone) == 2 * c.shape[1]
        torch.testing.assert_close(row[: len(alone)], alone, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_second_encoder_reads_pairs(codec, clips, tmp_path) -> None:
    """Logits at 25 Hz: the mean of two states at first, then whatever is learned."""
    torch.manual_seed(0)
    base = AutoModelForCTC.from_config(CONFIGS["wav2vec2-large"]).eval()
    parts = base, embedder(codec), codec.fingerprint()
    codes = [encode_audio(codec, c.samples, 2) for c in clips[:3]]
    values, mask = batch_of(codes)
    fine = VQWav2Vec2ForCTC.from_base(*parts)
    hidden, exists = fine.embedder.close(values.transpose(1, 2).masked_fill(mask[:, None] == 0, -1))
    fine.encoder.layer_norm = torch.nn.Identity()  # the second encoder normalises
    states = fine.encoder(hidden, attention_mask=exists).last_hidden_state
    model = VQWav2Vec2ForCTC.from_base(*parts, coarse_layers=1)
    means = states.reshape(len(states), -1, 2, states.shape[2]).mean(2)
    expected = base.lm_head(model.coarse.encoder.layer_norm(means))
    together = model(values, mask).logits
    torch.testing.assert_close(together[mask.bool()], expected[mask.bool()], atol=1e-5, rtol=1e-4)

    for parameter in model.coarse.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
    together = model(values, mask).logits
    for row, c in zip(together, codes, strict=True):
        alone = model(torch.from_numpy(c).T[None]).logits[0]
        assert len(alone) == c.shape[1]
        torch.testing.assert_close(row[: len(alone)], alone, atol=1e-4, rtol=1e-4)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCTC.from_pretrained(tmp_path).eval()
    assert torch.equal(loaded(values, mask).logits, together)
    assert loaded.config.inputs_to_logits_ratio == 640


def test_the_loss_is_that_of_each_item(model, codec, clips) -> None:
    codes = [encode_audio(codec, c.samples, 2) for c in clips[:2]]
    values, mask = batch_of(codes)
    labels = torch.tensor([[3, 4, 5, 3], [6, 7, -100, -100]])
    loss = model(values, mask, labels).loss
    alone = [
        model(torch.from_numpy(c).T[None], labels=row[row >= 0][None]).loss
        for c, row in zip(codes, labels, strict=True)
    ]
    torch.testing.assert_close(loss, sum(alone), atol=1e-3, rtol=1e-4)  # reduction "sum"
    loss.backward()
    assert model.embedder.to_embedding.weight.grad.abs().sum() > 0


def test_saved_and_loaded_it_is_the_same(model, codec, tokenizer, clips, tmp_path) -> None:
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    reader = load_recogniser(str(folder))
    assert isinstance(reader, CTCRecogniser)
    assert reader.codec_fingerprint == codec.fingerprint()
    assert reader.fingerprint() == model.fingerprint()
    codes = torch.from_numpy(encode_audio(codec, clips[0].samples, 2)).T[None]
    with torch.no_grad():
        assert torch.equal(reader.model(codes).logits, model(codes).logits)
    assert {p.suffix for p in folder.iterdir()} <= {".json", ".safetensors"}


def test_streams_are_read_and_others_refused(model, codec, tokenizer, clips, long_clip) -> None:
    reader = CTCRecogniser(model, tokenizer)
    model.embedder.speech_head.bias.data.fill_(10.0)  # untrained: everything is speech
    streams = [
        Stream.load(compress(c.samples, codec=codec, num_quantizers=2).to_bytes())
        for c in clips[:3]
    ]
    texts = reader.transcribe_streams(streams, batch_size=2)
    assert texts == [reader.transcribe_streams([s])[0] for s in streams]
    codes = encode_audio(codec, long_clip.samples, 1)
    (segments,) = reader.segments_of_codes([codes])
    times = [t for s in segments for t in (s.start_s, s.end_s)]
    assert times == sorted(times)
    assert times[-1] <= len(long_clip.samples) / 16_000 + 0.04
    reader.codec_fingerprint = b"others"
    with pytest.raises(CodecMismatchError, match=b"others".hex()):
        reader.transcribe_streams(streams)
    with pytest.raises(RecogniserError, match="reads codes only"):
        reader.transcribe_audio([clips[0].samples])


def test_an_adapter_folder_and_its_base(codec, tokenizer, clips, tmp_path) -> None:
    torch.manual_seed(0)
    base = AutoModelForCTC.from_config(CONFIGS["wavlm"]).eval()
    base.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    made = embedder(codec)
    rows = [{"system": "vqasr:2", "coded_bps": 435.0, "wer": 0.25, "delta_wer": None}]
    adapter = CodesAdapter(
        made, "some/wavlm", base_fingerprint(base), codec.fingerprint(), "ctc",
        metrics={"test_x": rows},
    )  # fmt: skip
    adapter.save_pretrained(tmp_path / "adapter")
    reader = load_recogniser(str(tmp_path / "base"), str(tmp_path / "adapter"))
    assert isinstance(reader, CTCRecogniser)
    codes = torch.from_numpy(encode_audio(codec, clips[0].samples, 2)).T[None]
    expected = VQWav2Vec2ForCTC.from_base(base, made.half().float(), codec.fingerprint())
    with torch.no_grad():
        torch.testing.assert_close(reader.model(codes).logits, expected.eval()(codes).logits)
    card = (tmp_path / "adapter" / "README.md").read_text()
    assert "base_model: some/wavlm" in card
    assert "| test_x | vqasr:2 | 435 | 0.25 | - |" in card
    assert codec.fingerprint().hex() in card
    AutoModelForCTC.from_config(CONFIGS["wavlm"]).save_pretrained(tmp_path / "base")
    with pytest.raises(RecogniserError, match="weights are not those"):
        load_recogniser(str(tmp_path / "base"), str(tmp_path / "adapter"))
    with pytest.raises(RecogniserError, match="upload failed"):  # there is no network here
        adapter.push_to_hub("nobody/nothing")


def test_words_become_segments() -> None:
    words = [Segment(0.1, 0.4, "one"), Segment(0.5, 0.9, "two"), Segment(2.0, 2.2, "three")]
    words += [Segment(2.3 + i, 3.2 + i, "x") for i in range(8)]
    groups = group_words(words)
    assert groups[0] == Segment(0.1, 0.9, "one two")
    assert groups[1].text.startswith("three x")
    assert all(g.end_s - g.start_s <= 7 for g in groups)
    assert " ".join(g.text for g in groups) == " ".join(w.text for w in words)
    assert group_words([]) == []


def test_errors(codec, model) -> None:
    other = AutoModelForCTC.from_config(
        Wav2Vec2BertConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=9)
    )
    with pytest.raises(RecogniserError, match="wav2vec2-bert"):
        VQWav2Vec2ForCTC.from_base(other, embedder(codec), codec.fingerprint())
    narrow = AutoModelForCTC.from_config(CONFIGS["hubert"])
    with pytest.raises(RecogniserError, match="embed_dim=32"):
        VQWav2Vec2ForCTC.from_base(narrow, embedder(codec, 16), codec.fingerprint())
    for codes in (torch.zeros(1, 5, dtype=torch.long), torch.zeros(1, 5, 2)):
        with pytest.raises(InvalidCodesError, match="input_values"):
            model(codes)
    with pytest.raises(RecogniserError, match="takes no adapter"):
        load_recogniser("ctc-small", "some-adapter")
    with pytest.raises(RecogniserError, match="cannot be loaded"):
        CTCRecogniser.from_pretrained("/nowhere")


@torch.inference_mode()
@pytest.mark.parametrize(("bits", "size"), [(8, 0.55), (6, 0.45)])
def test_int8_weights_are_half_as_large(model, bits, size, tmp_path) -> None:
    model.half().float().save_pretrained(tmp_path / "float")
    model.save_int8(tmp_path / "int8", bits)
    file = tmp_path / "int8" / INT8_FILE
    assert file.stat().st_size < size * (tmp_path / "float" / "model.safetensors").stat().st_size
    loaded = AutoModelForCTC.from_pretrained(tmp_path / "int8").eval()
    assert type(loaded) is VQWav2Vec2ForCTC
    for name, weight in model.state_dict().items():
        largest = weight.abs().amax(-1, keepdim=True) if weight.ndim > 1 else 0 * weight
        assert (
            (loaded.state_dict()[name] - weight).abs() <= largest / (2**bits - 3) + 1e-7
        ).all(), name


def test_as_models_of_transformers_are_used(model, codec, clips) -> None:
    """Tuples, frozen parts, checkpointing and half precision."""
    codes = torch.from_numpy(encode_audio(codec, clips[0].samples, 2)).T[None]
    with torch.no_grad():
        (logits,) = model(codes, return_dict=False)
        assert torch.equal(logits, model(codes).logits)
        with torch.autocast("cpu", torch.bfloat16):
            assert model(codes).logits.isfinite().all()
        half = copy.deepcopy(model).to(torch.bfloat16)
        torch.testing.assert_close(half(codes).logits.float(), logits, atol=0.1, rtol=0.1)
    model.freeze_feature_encoder()
    model.train()
    labels, gradients = torch.tensor([[3, 4, 5]]), []
    for checkpointed in (False, True):
        if checkpointed:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        torch.manual_seed(0)
        model.zero_grad()
        model(codes, labels=labels).loss.backward()
        gradients.append(model.encoder.layers[0].attention.q_proj.weight.grad.clone())
    assert model.embedder.to_embedding.weight.grad is None
    torch.testing.assert_close(*gradients)


def test_padding_as_collators_do(codec, clips) -> None:
    extractor = CodesFeatureExtractor(num_quantizers=2)
    together = extractor([clip.samples for clip in clips[:2]])
    rows = [extractor(clip.samples)["input_values"][0].tolist() for clip in clips[:2]]
    for features in ([{"input_values": row} for row in rows], {"input_values": rows}):
        padded = extractor.pad(features, padding=True, return_tensors="pt")
        assert padded.keys() == together.keys()
        assert all(torch.equal(padded[name], together[name]) for name in together)
