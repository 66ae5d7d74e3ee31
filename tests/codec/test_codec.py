"""Laws of the codec: frame count, one result for batch, single and streaming, scalable codes."""

import copy
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from prior_helpers import random_prior
from transformers import AutoModel

from vqasr import VQCodecConfig, VQCodecFeatureExtractor, VQCodecModel
from vqasr.codec.griffin_lim import OVERLAP_FRAMES, PIECE_FRAMES, log_mel_to_audio
from vqasr.codec.mel import clip_log_mel
from vqasr.compression.compress import LiveEncoder, encode_audio, encode_latents
from vqasr.compression.rates import OperatingPoint, operating_point
from vqasr.errors import AudioError, CodecError, InvalidCodesError

# The one excuse for differing codes is a float near-tie in the nearest-neighbour search.
MOST_TIES = 1e-4


def differing(a: np.ndarray, b: np.ndarray) -> int:
    assert a.shape == b.shape
    return int((a != b).sum())


@torch.inference_mode()
def near_ties(codec: VQCodecModel, wave: np.ndarray, a: np.ndarray, b: np.ndarray) -> int:
    """Frames whose codes differ; each must begin to where two codes are equally near."""
    latents = codec.encode_latents(torch.from_numpy(wave)[None])[0][0]
    frames = (a != b).any(0).nonzero()[0]
    for t in frames:
        level = int((a[:, t] != b[:, t]).argmax())  # the codebooks behind it describe another rest
        codebooks = codec.quantizer.codebooks
        rest = latents[t] - sum(codebooks[n][a[n, t]] for n in range(level))
        near, other = ((rest - codebooks[level][codes[level, t]]).norm() for codes in (a, b))
        assert abs(near - other) < 1e-4 * near, (t, level)
    return len(frames)


@pytest.fixture(scope="module")
def tiny() -> VQCodecModel:
    torch.manual_seed(0)
    return VQCodecModel(
        VQCodecConfig(num_quantizers=2, codebook_size=8, latent_dim=4, hidden_size=8, num_layers=1)
    ).eval()


@given(samples=st.integers(1, 20_000))
@settings(max_examples=40, deadline=None)
def test_frames_are_samples_over_hop_rounded_up(tiny: VQCodecModel, samples: int) -> None:
    codes = tiny.encode(torch.zeros(1, 1, samples)).audio_codes
    assert codes.shape == (1, 2, -(-samples // 640))
    assert tiny.config.frames(samples) == codes.shape[2]


@given(cuts=st.lists(st.integers(0, 4_000), max_size=12), tail=st.integers(1, 3_000))
@settings(max_examples=30, deadline=None)
def test_any_chunking_gives_as_many_frames(tiny: VQCodecModel, cuts: list[int], tail: int) -> None:
    encoder = LiveEncoder(tiny)
    parts = [encoder.push(np.zeros(n, np.float32)) for n in [*cuts, tail]]
    codes = np.concatenate([*parts, encoder.finish()], axis=1)
    assert codes.shape == (2, tiny.config.frames(sum(cuts) + tail))


def test_batch_single_and_streaming_agree(codec, clips, long_clip) -> None:
    waves = [c.samples for c in clips[:3]] + [long_clip.samples[: 9 * 16_000 + 77]]
    single = [codec.encode(torch.from_numpy(w)[None, None]).audio_codes[0].numpy() for w in waves]
    batch = codec.encode(**VQCodecFeatureExtractor()(waves, sampling_rate=16_000))
    total = ties = 0
    rng = np.random.default_rng(0)
    for i, wave in enumerate(waves):
        row = batch.audio_codes[i].numpy()
        frames = single[i].shape[1]
        assert batch.audio_codes_mask[i].sum() == frames
        assert (row[:, frames:] == -1).all()
        ties += differing(row[:, :frames], single[i])
        # Steps of a few milliseconds take longest: one clip.
        for largest in (5_000, 40_000) if i else (700, 5_000, 40_000):
            encoder, parts, at = LiveEncoder(codec), [], 0
            while at < len(wave):
                step = int(rng.integers(1, largest))
                parts.append(encoder.push(wave[at : at + step]))
                at += step
            streamed = np.concatenate([*parts, encoder.finish()], axis=1)
            ties += differing(streamed, single[i])
            total += single[i].size
        total += single[i].size
    assert ties <= MOST_TIES * total, f"{ties} of {total} codes differ"


def test_agreement_on_recordings(codec, speech_parquet) -> None:
    from vqasr.data.speech import load_speech, row_audio

    rows = load_speech(speech_parquet / "dev-00000-of-00001.parquet").select(range(4))
    total = ties = 0
    for row in rows:
        wave = row_audio(row)
        whole = codec.encode(torch.from_numpy(wave)[None, None]).audio_codes[0].numpy()
        encoder = LiveEncoder(codec)
        parts = [encoder.push(wave[i : i + 1600]) for i in range(0, len(wave), 1600)]
        streamed = np.concatenate([*parts, encoder.finish()], axis=1)
        ties += near_ties(codec, wave, whole, streamed)
        total += whole.shape[1]
    print(f"{ties} of {total} frames differ between whole and streamed")
    assert ties <= 1e-3 * total


def test_first_codebooks_are_the_lower_rate_stream(codec, clips) -> None:
    every = encode_audio(codec, clips[0].samples)
    for n in range(1, codec.config.num_quantizers + 1):
        assert np.array_equal(encode_audio(codec, clips[0].samples, n), every[:n])


def test_nothing_beyond_the_look_ahead_is_heard(codec, clips) -> None:
    wave = clips[0].samples
    frame = 40
    end = (frame + 1) * 640 + codec.config.lookahead_samples
    changed = wave.copy()
    changed[end:] = 0.3
    before, after = encode_audio(codec, wave), encode_audio(codec, changed)
    assert np.array_equal(before[:, : frame + 1], after[:, : frame + 1])
    assert not np.array_equal(before[:, frame + 1 :], after[:, frame + 1 :])
    # The statement in the config is tight: the last two of the samples matter (the window that
    # the last mel frame is weighted with is zero at its very end).
    latents = []
    for value in (0.0, 100.0):
        poked = torch.from_numpy(wave.copy())[None]
        poked[0, end - 2 : end] = value
        latents.append(codec.encode_latents(poked)[0][0, frame])
    assert not torch.equal(*latents)
    assert codec.config.lookahead_samples <= 0.320 * 16_000


def test_frames_come_as_soon_as_the_look_ahead_allows(codec) -> None:
    encoder = LiveEncoder(codec, num_quantizers=1)
    needed = 640 + codec.config.lookahead_samples
    assert encoder.push(np.zeros(needed - 1, np.float32)).shape == (1, 0)
    assert encoder.push(np.zeros(1, np.float32)).shape == (1, 1)


def test_past_is_bounded(codec, clips) -> None:
    wave = np.concatenate([c.samples for c in clips[:3]])
    offset = 640 * 50
    later = encode_audio(codec, wave[offset:])
    whole = encode_audio(codec, wave)[:, 50 + 60 :]
    assert differing(whole, later[:, 60:]) <= max(1, MOST_TIES * whole.size)


def test_threads_do_not_change_codes(codec, clips) -> None:
    before = torch.get_num_threads()
    codes = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            rows = [encode_audio(codec, c.samples) for c in clips[:2]]
            codes.append(np.concatenate(rows, axis=1))
    finally:
        torch.set_num_threads(before)
    assert differing(*codes) <= MOST_TIES * codes[0].size


def test_save_and_load_keep_codes_and_fingerprint(codec, clips, tmp_path) -> None:
    codec.save_pretrained(tmp_path)
    again = VQCodecModel.from_pretrained(tmp_path).eval()
    assert again.fingerprint() == codec.fingerprint()
    assert np.array_equal(
        encode_audio(again, clips[1].samples), encode_audio(codec, clips[1].samples)
    )
    assert not list(tmp_path.glob("*.bin"))
    assert isinstance(AutoModel.from_pretrained(tmp_path), VQCodecModel)


def test_fingerprint_follows_every_change(small_config) -> None:
    codec = VQCodecModel(small_config)
    weight = codec.encoder.to_latent.weight
    seen = [codec.fingerprint()]

    def changed() -> bool:
        seen.append(codec.fingerprint())
        return seen[-1] not in seen[:-1]

    with torch.no_grad():
        weight.add_(1.0)
    assert changed()
    weight.data.mul_(2.0)
    assert changed()
    state = {name: tensor + 1.0 for name, tensor in codec.state_dict().items()}
    codec.load_state_dict(state)
    assert changed()
    assert codec.fingerprint() == copy.deepcopy(codec).fingerprint() == seen[-1]
    codec.encoder.to_latent.weight = torch.nn.Parameter(torch.zeros_like(weight))
    assert changed()


def test_fingerprint_names_the_weights(codec, small_config) -> None:
    torch.manual_seed(0)
    one, other = VQCodecModel(small_config), VQCodecModel(small_config)
    assert one.fingerprint() != other.fingerprint()
    prints = {one.fingerprint(), other.fingerprint(), codec.fingerprint()}
    assert len(prints) == 3
    assert {len(p) for p in prints} == {6}


def test_decode_gives_audio_of_the_same_length_and_loudness(codec, clips) -> None:
    wave = clips[0].samples
    with torch.no_grad():
        out = codec(torch.from_numpy(wave)[None, None])
        audio = codec.decode(out.audio_codes, samples=len(wave)).audio_values
    assert audio.shape == (1, 1, len(wave))
    loudness = audio.square().mean().sqrt() / np.sqrt(np.square(wave).mean())
    assert 0.3 < float(loudness) < 3.0
    # Decoding what was coded is closer to the original than decoding another clip's codes.
    mel = codec.decode_mel(out.audio_codes)
    other = codec.decode_mel(codec.encode(torch.from_numpy(clips[1].samples)[None]).audio_codes)
    wanted = clip_log_mel(torch.from_numpy(wave)[None])
    n = min(mel.shape[1], other.shape[1], wanted.shape[1])
    error = [(m[:, :n] - wanted[:, :n]).square().mean() for m in (mel, other)]
    assert error[0] < 0.5 * error[1]


def test_long_audio_is_decoded_in_pieces_that_join(codec, long_clip) -> None:
    twice = torch.from_numpy(long_clip.samples).tile(1, 2)
    mel = clip_log_mel(twice)[:, : PIECE_FRAMES + 500]
    audio = log_mel_to_audio(mel, iterations=4)
    assert audio.shape == (1, 160 * mel.shape[1])
    again = clip_log_mel(audio)
    joint = slice(PIECE_FRAMES - 20, PIECE_FRAMES + OVERLAP_FRAMES + 20)
    errors = [(again[:, s] - mel[:, s]).abs().mean() for s in (joint, slice(3000, 5000))]
    assert errors[0] < 2.0 * errors[1]


def test_a_folder_that_holds_no_codec_is_refused(codec, recogniser, tmp_path) -> None:
    recogniser.whisper.model.save_pretrained(tmp_path / "whisper")
    with pytest.raises(CodecError):
        VQCodecModel.from_pretrained(tmp_path / "whisper")
    codec.save_pretrained(tmp_path / "broken")
    weights = tmp_path / "broken" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CodecError, match="cannot be loaded"):
        VQCodecModel.from_pretrained(tmp_path / "broken")
    with pytest.raises(CodecError, match="vqasr-base"):
        VQCodecModel.from_pretrained("no-such-codec")


def test_one_frame_and_ten_milliseconds(codec) -> None:
    assert encode_audio(codec, np.zeros(160, np.float32)).shape[1] == 1
    assert codec.decode(torch.zeros(1, 2, 1, dtype=torch.long)).audio_values.shape == (1, 1, 640)


@pytest.mark.parametrize("n", [0, -1, 9])
def test_codebooks_out_of_range(codec, n) -> None:
    with pytest.raises(InvalidCodesError, match="1 to 8"):
        codec.encode(torch.zeros(1, 640), num_quantizers=n)


@pytest.mark.parametrize(
    "codes",
    [torch.full((1, 2, 3), 1024), torch.zeros(1, 9, 3, dtype=torch.long), torch.zeros(1, 2, 3)],
    ids=["value", "codebooks", "float"],
)
def test_decode_refuses_codes_that_are_not_its_own(codec, codes) -> None:
    with pytest.raises(InvalidCodesError):
        codec.decode(codes)


def test_streaming_refuses_nan_and_goes_on(codec, clips) -> None:
    wave = clips[0].samples
    encoder = LiveEncoder(codec)
    first = encoder.push(wave[:20_000])
    with pytest.raises(AudioError, match="NaN"):
        encoder.push(np.full(100, np.nan, np.float32))
    codes = np.concatenate([first, encoder.push(wave[20_000:]), encoder.finish()], axis=1)
    assert differing(codes, encode_audio(codec, wave)) <= 1
    with pytest.raises(AudioError, match="finished"):
        encoder.push(wave)


def test_config_refuses_a_longer_look_ahead() -> None:
    with pytest.raises(ValueError, match="320 ms"):
        VQCodecConfig(num_layers=7)


def at(config: VQCodecConfig, bps: float) -> tuple[int, float]:
    point = operating_point(config, bps=bps)
    return point.num_quantizers, point.bit_price


def test_a_rate_is_met_between_measured_points(small_config) -> None:
    small_config.price_points = [(199.6, 2, 9.0), (300.0, 2, 5.0), (500.4, 3, 0.0)]
    with pytest.raises(InvalidCodesError, match="200 to 500"):  # and what it names is possible
        at(small_config, 501)
    assert at(small_config, 200)[0] == 2
    assert at(small_config, 500)[0] == 3
    small_config.price_points = [(200.0, 2, 9.0), (300.0, 2, 5.0), (500.0, 3, 0.0)]
    assert at(small_config, 200) == (2, 9.0)
    assert at(small_config, 250) == (2, 7.0)
    assert at(small_config, 500) == (3, 0.0)
    with pytest.raises(InvalidCodesError, match="200 to 500"):
        at(small_config, 100)
    again = VQCodecConfig.from_dict(json.loads(small_config.to_json_string()))
    assert at(again, 400) == (3, 2.5)
    with pytest.raises(InvalidCodesError, match="no calibrated rates"):
        at(VQCodecConfig(), 300)


def test_one_rule_for_rates(small_config) -> None:
    assert operating_point(small_config).num_quantizers == 3
    assert operating_point(small_config, num_quantizers=2).bit_price == 0.0
    with pytest.raises(InvalidCodesError, match="1 to 3 codebooks"):
        operating_point(small_config, num_quantizers=4)
    with pytest.raises(InvalidCodesError, match="both choose the rate"):
        operating_point(small_config, num_quantizers=2, bps=300)


def test_chosen_codes_agree_in_one_piece_and_live(small_config, noise) -> None:
    small_config.variable_depth = True
    codec = VQCodecModel(small_config).eval()
    prior = random_prior(codec=codec.fingerprint())
    point = OperatingPoint(3, 0.02)
    for clip in (noise, np.roll(noise, 3000)):
        codes = encode_audio(codec, clip, 3, 0.02, prior)
        assert not np.array_equal(codes, encode_audio(codec, clip))
        live = LiveEncoder(codec, point=point, prior=prior)
        pieces = [live.push(clip[i : i + 1000]) for i in range(0, len(clip), 1000)]
        np.testing.assert_array_equal(np.concatenate([*pieces, live.finish()], axis=1), codes)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_codes_under_autocast_are_the_same(codec, clips, dtype) -> None:
    wave = clips[0].samples
    inputs = VQCodecFeatureExtractor()(wave, sampling_rate=16_000)
    whole, latents = codec.encode(**inputs).audio_codes, encode_latents(codec, wave)
    chosen = encode_audio(codec, wave, 4, 1.0)
    with torch.autocast("cpu", dtype):
        assert torch.equal(codec.encode(**inputs).audio_codes, whole)
        assert torch.equal(encode_latents(codec, wave), latents)
        assert (encode_audio(codec, wave, 4, 1.0) == chosen).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_codes_are_defined_in_float32(tiny, dtype) -> None:
    samples = np.zeros(3200, np.float32)
    other = copy.deepcopy(tiny).to(dtype)
    for encode in (encode_audio, encode_latents):
        with pytest.raises(CodecError, match="float32"):
            encode(other, samples)
    with pytest.raises(CodecError, match="float32"):
        other.encode(torch.zeros(1, 3200))
    assert tiny.encode(torch.zeros(1, 3200, dtype=dtype)).audio_codes.shape == (1, 2, 5)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([[0, 0, 1, 1]], "on the right"),
        ([[1, 0, 1, 0]], "on the right"),
        ([[1, 1, 1]], "padding_mask has shape"),
    ],
)
def test_padding_that_is_not_on_the_right(tiny, mask, message) -> None:
    with pytest.raises(AudioError, match=message):
        tiny.encode(torch.zeros(1, 4), torch.tensor(mask))


def test_nan_in_a_batch(tiny) -> None:
    with pytest.raises(AudioError, match="NaN"):
        tiny.encode(torch.tensor([[0.0, torch.nan]]))
