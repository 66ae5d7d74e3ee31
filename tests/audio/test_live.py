"""Audio that is still coming in: the same samples as of whole files, as soon as they are there."""

import io
import os
import threading
import warnings

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from vqasr.audio.files import read_audio
from vqasr.audio.live import LiveAudio
from vqasr.audio.resampling import LiveResampler, resample
from vqasr.errors import AudioError
from vqasr.files import Begun
from vqasr.grid import HOP_LENGTH

RATES_HZ = (8_000, 11_025, 16_000, 22_050, 44_100, 47_999, 48_000, 192_000)


@given(
    rate_hz=st.sampled_from(RATES_HZ),
    pieces=st.lists(st.integers(0, 9_000), max_size=6),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_resampled_piece_by_piece_as_whole(rate_hz: int, pieces: list[int], seed: int) -> None:
    samples = np.random.default_rng(seed).uniform(-1, 1, sum(pieces)).astype(np.float32)
    live, out, begin = LiveResampler(rate_hz, 16_000), [], 0
    for size in pieces:
        out.append(live.push(samples[begin : begin + size]))
        begin += size
    out.append(live.finish())
    whole = resample(samples, rate_hz, 16_000)
    made = np.concatenate(out)
    assert abs(len(made) - len(whole)) <= (1 if rate_hz == 47_999 else 0)
    if rate_hz != 47_999:  # a ratio that is rounded
        np.testing.assert_allclose(made, whole, atol=1e-6)


def wav(samples: np.ndarray, rate_hz: int, form: str = "WAV", subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format=form, subtype=subtype)
    return file.getvalue()


def read_live(data: bytes, pcm_hz: int | None = None) -> np.ndarray:
    return np.concatenate([*LiveAudio(Begun(io.BytesIO(data), 4), pcm_hz)])


@pytest.mark.parametrize("length", [1, 2, 31, 40_000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("form", "subtype"), [("WAV", "PCM_16"), ("WAVEX", "FLOAT"), ("AU", "PCM_16"), ("FLAC", None)]
)
def test_as_the_file(form, subtype, channels, length) -> None:
    samples = 0.1 * np.random.default_rng(0).standard_normal((length, channels))
    data = wav(samples, 44_100, form, subtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_allclose(read_live(data), read_audio(data), atol=1e-5)


def test_raw_samples_and_headers_without_a_length() -> None:
    data = wav(0.1 * np.random.default_rng(0).standard_normal(9_000), 22_050)
    np.testing.assert_array_equal(read_live(data[44:], 22_050), read_live(data))
    endless = data[:4] + b"\xff" * 4 + data[8:40] + b"\xff" * 4 + data[44:]
    np.testing.assert_array_equal(read_live(endless), read_live(data))


def test_pieces_come_before_the_end() -> None:
    data = wav(np.full(16_000, 0.1), 16_000)
    source, sink = os.pipe()
    with os.fdopen(source, "rb") as reader, os.fdopen(sink, "wb", buffering=0) as writer:
        writer.write(data[:10_000])  # 0.31 s
        pieces, got = iter(LiveAudio(Begun(reader, 4))), []
        thread = threading.Thread(target=lambda: got.extend(next(pieces) for _ in range(7)))
        thread.start()
        thread.join(30)
        assert sum(map(len, got)) == 7 * HOP_LENGTH
        writer.write(data[10_000:])
        writer.close()
        assert sum(map(len, [*got, *pieces])) == 16_000


@pytest.mark.parametrize(
    ("data", "pcm_hz", "message"),
    [
        (b"RIFF" + b"\0" * 50, None, "cannot be read as audio"),
        (wav(np.zeros(0), 16_000), None, "holds no samples"),
        (b"no audio at all", None, "standard input"),
        (b"", 16_000, "holds no samples"),
        (b"\0\0", 1, "sampling rate 1 Hz"),
        (wav(np.array([0.1, np.nan] * 1000), 16_000, subtype="FLOAT"), None, "sample 1 is nan"),
    ],
)
def test_refused(data, pcm_hz, message) -> None:
    with pytest.raises(AudioError, match=message):
        read_live(data, pcm_hz)


def test_what_was_read_remains() -> None:
    samples = np.full(16_000, 0.1)
    samples[9_000] = np.inf
    pieces = []
    with pytest.raises(AudioError, match="is inf"):  # noqa: PT012 (the pieces before it count)
        for piece in LiveAudio(Begun(io.BytesIO(wav(samples, 16_000, subtype="FLOAT")), 4)):
            pieces.append(piece)
    assert sum(map(len, pieces)) == 9_000 // 640 * 640


def test_a_wav_file_whose_recorder_never_wrote_its_sizes() -> None:
    data = wav(0.1 * np.random.default_rng(0).standard_normal(9_000), 16_000)
    extra = b"LIST" + (5).to_bytes(4, "little") + b"INFOx\0"  # of odd size, and padded
    for sizes in (data[4:8], b"\0" * 4, b"\x24\0\0\0"):
        broken = b"RIFF" + sizes + data[8:36] + extra + b"data" + b"\0" * 4 + data[44:]
        np.testing.assert_array_equal(read_live(broken), read_live(data))


def test_channels_that_cancel_are_found_once() -> None:
    """Identical channels, then opposite ones: from there on the loudest alone, with one warning."""
    speech = np.random.default_rng(0).uniform(-0.1, 0.1, 32_000)
    both = np.stack([speech, speech * np.where(np.arange(32_000) < 16_000, 1.0, -0.9)], 1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        live = read_live(wav(both, 16_000, subtype="FLOAT"))
    assert ["cancel each other" in str(w.message) for w in caught] == [True]
    np.testing.assert_allclose(live, speech, atol=1e-6)
