"""The vocoder: streaming equals offline, and audio depends on the stated look-ahead alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vqasr.codec.convolution import StreamState
from vqasr.codec.excitation import _noise
from vqasr.codec.int8_weights import INT8_FILE
from vqasr.codec.mel import clip_mel_power, hann_window, mel_filters
from vqasr.codec.vocoder import (
    N_FFT,
    LiveVocoder,
    OverlapAdd,
    Vocoder,
)
from vqasr.codec.vocoder import VocoderConfig as Config
from vqasr.errors import CodecError
from vqasr.grid import FINE_HOP_LENGTH, HOP_LENGTH

SIZES = {"latent_dim": 8, "hidden_size": 16, "num_layers": 2, "fine_hidden_size": 12}


def vocoder(ahead: int = 1, delay: int = 0) -> Vocoder:
    torch.manual_seed(0)
    config = Config(**SIZES, num_fine_layers=2, lookahead_frames=ahead, delay_frames=delay)
    made = Vocoder(config).eval()
    torch.nn.init.normal_(made.missing_frame)
    return made


@torch.no_grad()
@given(
    pieces=st.lists(st.integers(0, 9), max_size=8), ahead=st.integers(0, 2),
    delay=st.integers(0, 2), seed=st.integers(0, 9),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_piece_by_piece_as_whole(pieces: list[int], ahead: int, delay: int, seed: int) -> None:
    model, frames = vocoder(ahead, delay), sum(pieces)
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(frames, 8, generator=generator)
    lost = torch.rand(frames, generator=generator) < 0.3
    live, out, begin = LiveVocoder(model), [], 0
    for size in pieces:
        piece = slice(begin, begin + size)
        out.append(live.push(latents[piece], lost[piece]))
        begin += size
        assert sum(map(len, out)) == max(0, begin - ahead - delay) * HOP_LENGTH
    out.append(live.finish())
    whole = model(latents[None], lost[None])[0]
    assert len(whole) == frames * HOP_LENGTH
    # Rounding of the pitch adds up in the phases of the harmonics.
    loudest = float(whole.abs().max()) if frames else 0.0
    torch.testing.assert_close(torch.cat(out), whole, atol=5e-3 * loudest, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(("ahead", "delay"), [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1)])
def test_lookahead(ahead: int, delay: int) -> None:
    model = vocoder(ahead, delay)
    ahead += delay
    assert model.config.lookahead_s == pytest.approx(0.04 * ahead)
    latents = torch.randn(1, 20, 8)
    changed = latents.clone()
    changed[:, 10] += 1.0
    differs = (model(latents) != model(changed))[0].nonzero()[:, 0]
    assert (10 - ahead) * HOP_LENGTH <= int(differs.min()) < (11 - ahead) * HOP_LENGTH


def test_overlap_add_inverts_the_stft() -> None:
    audio, inverse = torch.randn(1, 4000), OverlapAdd()
    windows = audio.unfold(-1, N_FFT, FINE_HOP_LENGTH) * hann_window(audio.device, N_FFT)
    again = inverse(torch.fft.rfft(windows), StreamState())
    inner = slice(N_FFT - FINE_HOP_LENGTH, windows.shape[1] * FINE_HOP_LENGTH)
    torch.testing.assert_close(again[:, inner], audio[:, inner], atol=1e-5, rtol=1e-5)


def test_save_and_load(tmp_path) -> None:
    model, latents = vocoder(), torch.randn(1, 5, 8)
    model.save_pretrained(tmp_path)
    assert torch.equal(Vocoder.from_pretrained(tmp_path)(latents), model(latents))
    with pytest.raises(CodecError, match="griffin-lim"):
        Vocoder.from_pretrained(tmp_path / "missing")
    with pytest.raises(ValueError, match="lookahead_frames=3"):
        Config(**SIZES, lookahead_frames=3)
    with pytest.raises(ValueError, match="delay_frames=-1"):
        Config(**SIZES, delay_frames=-1)
    model.config.codec_fingerprint = "00" * 6
    model.save_int8(tmp_path / "int8")
    again = Vocoder.from_pretrained(tmp_path / "int8")
    for name, weight in again.state_dict().items():
        torch.testing.assert_close(weight, model.state_dict()[name], atol=0.01, rtol=0.01)
    (tmp_path / "int8" / INT8_FILE).write_bytes(b"\x1f\x8b damaged")
    with pytest.raises(CodecError, match="cannot be loaded"):
        Vocoder.from_pretrained(tmp_path / "int8")


def test_training_after_inference_mode() -> None:
    """Windows and noise that are kept from the first call serve both."""
    for kept in (mel_filters, hann_window, _noise):
        kept.cache_clear()
    model, latents = vocoder(), torch.randn(1, 4, 8)
    for mode in (True, False):
        with torch.inference_mode(mode):
            power = clip_mel_power(model(latents)).sum()
    power.backward()
    assert model.gain_head.weight.grad.abs().sum() > 0
