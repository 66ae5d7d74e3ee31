"""Reading sound, and saying clearly what is wrong with it."""

import io

import numpy as np
import pytest
import soundfile

from vqasr import VQCodecFeatureExtractor
from vqasr.audio.files import read_audio
from vqasr.errors import AudioError


def tone(rate_hz: int, seconds: float = 0.5, channels: int = 1) -> np.ndarray:
    t = np.arange(int(rate_hz * seconds)) / rate_hz
    return np.tile(0.5 * np.sin(2 * np.pi * 440 * t), (channels, 1)).astype(np.float32)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_any_rate_and_channel_count(tmp_path, rate_hz, channels) -> None:
    soundfile.write(tmp_path / "a.wav", tone(rate_hz, channels=channels).T, rate_hz)
    samples = read_audio(tmp_path / "a.wav")
    assert samples.dtype == np.float32
    assert abs(len(samples) - 8_000) <= 1
    spectrum = np.abs(np.fft.rfft(samples[:8_000]))
    assert abs(np.argmax(spectrum) * 2 - 440) <= 2
    assert 0.3 < np.abs(samples).max() < 0.6


def test_bytes_and_file_objects() -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(16_000)[0], 16_000, format="FLAC")
    expected = tone(16_000)[0]
    np.testing.assert_allclose(read_audio(buffer.getvalue()), expected, atol=1e-4)
    buffer.seek(0)
    np.testing.assert_allclose(read_audio(buffer), expected, atol=1e-4)


def test_a_text_file_is_no_audio(tmp_path) -> None:
    path = tmp_path / "talk.wav"
    path.write_text("not sound")
    with pytest.raises(AudioError, match=r"talk\.wav.*cannot be read as audio"):
        read_audio(path)


@pytest.mark.parametrize("source", [b"", b"RIFF\x00\x00", b"\x00" * 4000])
def test_bad_bytes(source) -> None:
    with pytest.raises(AudioError):
        read_audio(source)


def test_missing_file(tmp_path) -> None:
    with pytest.raises(AudioError, match="no such file"):
        read_audio(tmp_path / "nothing.wav")


def test_empty_file(tmp_path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 16_000)
    with pytest.raises(AudioError, match="holds no samples"):
        read_audio(tmp_path / "a.wav")


def test_a_file_of_no_bytes(tmp_path) -> None:
    (tmp_path / "a.wav").touch()
    for source in (tmp_path / "a.wav", str(tmp_path / "a.wav"), b""):
        with pytest.raises(AudioError, match="empty, 0 bytes"):
            read_audio(source)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinite_samples(tmp_path, value) -> None:
    wave = tone(16_000)[0]
    wave[123] = value
    soundfile.write(tmp_path / "a.wav", wave, 16_000, subtype="FLOAT")
    with pytest.raises(AudioError, match="sample 123 is"):
        read_audio(tmp_path / "a.wav")


def test_feature_extractor_pads_a_batch() -> None:
    clips = [tone(16_000, 0.1)[0], tone(16_000, 0.2)[0]]
    batch = VQCodecFeatureExtractor()(clips, sampling_rate=16_000)
    assert batch["input_values"].shape == (2, 1, 3200)
    assert batch["padding_mask"].sum(1).tolist() == [1600, 3200]
    assert batch["input_values"][0, 0, 1600:].abs().max() == 0


@pytest.mark.parametrize(
    ("audio", "rate", "message"),
    [
        (np.zeros(100, np.float32), None, "no sampling rate was given"),
        (np.zeros(100, np.float32), 44_100, "44100 Hz"),
        ([], 16_000, "empty list"),
    ],
)
def test_feature_extractor_refuses(audio, rate, message) -> None:
    with pytest.raises(AudioError, match=message):
        VQCodecFeatureExtractor()(audio, sampling_rate=rate)


def test_feature_extractor_round_trip(tmp_path) -> None:
    VQCodecFeatureExtractor().save_pretrained(tmp_path)
    assert VQCodecFeatureExtractor.from_pretrained(tmp_path).sampling_rate == 16_000
