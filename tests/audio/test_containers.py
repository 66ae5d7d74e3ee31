"""All that a file holds is read, whatever its header says; differences are reported."""

import io
import struct
import warnings

import numpy as np
import pytest
import soundfile

from vqasr.audio.files import read_audio
from vqasr.errors import AudioError, AudioWarning

RATE_HZ = 16_000
T = np.arange(6 * RATE_HZ) / RATE_HZ
RNG = np.random.default_rng(0)
SPEECH_LIKE = (0.2 * np.sin(2 * np.pi * 300 * T) * (1 + np.sin(2 * np.pi * 3 * T)) / 2).astype("f4")
SPEECH_LIKE += (0.01 * RNG.standard_normal(len(T))).astype("f4")
OTHER = (0.2 * np.sin(2 * np.pi * 800 * T[: 3 * RATE_HZ])).astype("f4")
FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "wav24": ("WAV", "PCM_24"),
    "wavfloat": ("WAV", "FLOAT"),
    "wavex": ("WAVEX", "PCM_16"),
    "rf64": ("RF64", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "flac": ("FLAC", None),
    "vorbis": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", None),
}


def encoded(name: str, samples: np.ndarray, rate_hz: int = RATE_HZ) -> bytes:
    kind, subtype = FORMATS[name]
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, format=kind, subtype=subtype)
    return buffer.getvalue()


def read(data: bytes) -> tuple[np.ndarray, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        samples = read_audio(data)
    return samples, [str(w.message) for w in caught if issubclass(w.category, AudioWarning)]


@pytest.mark.parametrize("name", FORMATS)
def test_whole_files_say_nothing(name) -> None:
    samples, messages = read(encoded(name, SPEECH_LIKE))
    assert len(samples) == pytest.approx(6 * RATE_HZ, abs=2500)
    assert not messages


@pytest.mark.parametrize("name", FORMATS)
def test_samples_are_those_of_soundfile(name) -> None:
    for seconds in (0.3, 2.0, 6.0):
        data = encoded(name, SPEECH_LIKE[: round(seconds * RATE_HZ)])
        expected, _ = soundfile.read(io.BytesIO(data), dtype="float32")
        np.testing.assert_array_equal(read(data)[0], expected)


@pytest.mark.parametrize("share", [0.35, 0.6, 0.9])
@pytest.mark.parametrize("name", FORMATS)
def test_cut_off(name, share) -> None:
    data = encoded(name, SPEECH_LIKE)
    data = data[: int(share * len(data))]
    samples, messages = read(data)
    assert len(samples) / RATE_HZ == pytest.approx(6 * share, abs=1.6)  # Ogg pages take a second
    assert len(messages) == 1
    assert f"{len(samples) / RATE_HZ:.2f} s" in messages[0]
    if name not in ("vorbis", "opus"):  # whose headers have no length
        assert "promises 6.0" in messages[0]


@pytest.mark.parametrize("name", FORMATS)
def test_joined(name) -> None:
    samples, messages = read(encoded(name, SPEECH_LIKE) + encoded(name, OTHER))
    assert len(samples) / RATE_HZ == pytest.approx(9.0, abs=0.2)
    assert any("2 recordings" in message for message in messages)
    assert tone_hz(samples[: 5 * RATE_HZ]) == pytest.approx(300, abs=4)
    assert tone_hz(samples[-2 * RATE_HZ :]) == pytest.approx(800, abs=4)


@pytest.mark.parametrize("name", ["wav", "flac", "mp3", "opus"])
def test_joined_with_another_rate(name) -> None:
    other = (0.2 * np.sin(2 * np.pi * 800 * np.arange(3 * 48_000) / 48_000)).astype("f4")
    samples, _ = read(encoded(name, SPEECH_LIKE) + encoded(name, other, 48_000))
    assert len(samples) / RATE_HZ == pytest.approx(9.0, abs=0.2)
    assert tone_hz(samples[-2 * RATE_HZ :]) == pytest.approx(800, abs=4)


@pytest.mark.parametrize("name", FORMATS)
def test_joined_with_noise(name) -> None:
    samples, _ = read(encoded(name, SPEECH_LIKE) + bytes(4000))
    assert len(samples) / RATE_HZ == pytest.approx(6.0, abs=0.3)


UNFINISHED = {  # offsets of sizes in the headers that libsndfile writes, and their widths
    "wav": ((4, "<I"), (40, "<I")),
    "rf64": ((20, "<Q"), (28, "<Q")),
    "w64": ((16, "<Q"), None),
    "aiff": ((4, ">I"), None),
    "au": ((8, ">I"),),
    "caf": (None,),
}


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize("name", UNFINISHED)
def test_sizes_that_the_recorder_never_wrote(name, value) -> None:
    data = bytearray(encoded(name, SPEECH_LIKE))
    for place in UNFINISHED[name]:
        if place is None:  # the size behind the name of the chunk with the samples
            at = data.find(b"SSND" if name == "aiff" else b"data")
            kind = {"w64": "<Q", "aiff": ">I", "caf": ">Q"}[name]
            place = (at + (16 if name == "w64" else 4), kind)
        at, kind = place
        size = struct.calcsize(kind)
        data[at : at + size] = struct.pack(kind, value % (1 << 8 * size))
    if name == "aiff":
        at = data.find(b"COMM")
        data[at + 10 : at + 14] = struct.pack(">I", 0)
    samples, messages = read(bytes(data))
    assert len(samples) == pytest.approx(6 * RATE_HZ, abs=2)
    np.testing.assert_allclose(samples[:90_000], SPEECH_LIKE[:90_000], atol=1e-3)
    if value == 0:
        assert len(messages) == 1
        assert "promises 0.00 s" in messages[0]
        assert "6.00 s" in messages[0]


@pytest.mark.parametrize("name", ["wav", "au", "aiff", "w64"])
def test_a_header_that_was_not_updated(name) -> None:
    short = bytearray(encoded(name, SPEECH_LIKE[: 2 * RATE_HZ]))
    if name == "wav":  # 2 s in the header, 6 s in the file
        short = short[:44]
    elif name == "au":
        short = short[: int.from_bytes(short[4:8], "big")]
    else:
        at = short.find(b"SSND" if name == "aiff" else b"data")
        short = short[: at + (16 if name == "aiff" else 24)]
    whole = encoded(name, SPEECH_LIKE)
    samples, messages = read(bytes(short) + whole[len(short) :])
    np.testing.assert_allclose(samples[:90_000], SPEECH_LIKE[:90_000], atol=1e-3)
    assert len(samples) == pytest.approx(6 * RATE_HZ, abs=2)
    assert "promises 2.00 s, the file holds 6.00 s" in messages[0]


def test_a_second_part_that_cannot_be_read_is_reported() -> None:
    data = encoded("flac", SPEECH_LIKE)
    samples, messages = read(data + data[:60])
    assert len(samples) == 6 * RATE_HZ
    assert any("part 2 of 2 was skipped" in message for message in messages)


def test_opposite_phase_in_a_file() -> None:
    samples, messages = read(encoded("wav", np.stack([SPEECH_LIKE, -SPEECH_LIKE], axis=1)))
    np.testing.assert_allclose(samples, SPEECH_LIKE, atol=1e-4)
    assert "cancel" in messages[0]


@pytest.mark.parametrize("name", FORMATS)
def test_headers_without_samples(name) -> None:
    data = encoded(name, SPEECH_LIKE)
    for size in (4, 12, 20):
        with pytest.raises(AudioError):
            read(data[:size])


def tone_hz(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples))
    return float(np.argmax(spectrum)) * RATE_HZ / len(samples)
