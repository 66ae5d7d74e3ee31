"""Classical codecs: their bitrate is as stated, and the decoded audio resembles the input."""

import shutil

import numpy as np
import pytest

from vqasr.errors import VqasrError
from vqasr.evaluation.classical import (
    CODEC2_MODES,
    UnavailableError,
    classical_codec,
    classical_names,
)

pytest.importorskip("av")
BPS = {"mulaw": 64_000, "adpcm": 64_000, "g722": 64_000}
# Codecs that do not meet their stated rate: LAME and SBC choose from a few, Opus varies.
LOOSE = ("mp3", "sbc", "opus")


@pytest.mark.parametrize(
    "name", [n for n in classical_names() if not n.startswith(("codec2", "opuswb"))]
)
def test_ffmpeg(name, clips) -> None:
    samples = clips[0].samples
    size, decoded = classical_codec(name)(samples)
    kind, _, rate = name.partition(":")
    bps = 8 * size / (len(samples) / 16_000)
    nominal = BPS.get(kind) or int(rate)
    assert (0.6 if kind in LOOSE else 0.97) * nominal < bps < 1.7 * nominal, bps
    assert decoded.shape == samples.shape
    assert decoded.dtype == np.float32
    assert likeness(samples, decoded) > (0.5 if nominal < 10_000 else 0.8)


@pytest.mark.skipif(shutil.which("c2enc") is None, reason="Debian's codec2 is not installed")
@pytest.mark.parametrize("mode", CODEC2_MODES)
def test_codec2(mode, clips) -> None:
    size, decoded = classical_codec(f"codec2:{mode}")(clips[0].samples)
    assert 8 * size / (len(decoded) / 16_000) == pytest.approx(int(mode.rstrip("C")), rel=0.05)
    assert np.abs(decoded).max() > 0.01


@pytest.mark.skipif(shutil.which("opusenc") is None, reason="Debian's opus-tools are missing")
def test_opus_with_wideband_forced(clips) -> None:
    samples = clips[0].samples
    size, decoded = classical_codec("opuswb:6000")(samples)
    assert 3_600 < 8 * size / (len(samples) / 16_000) < 10_200
    assert likeness(samples, decoded) > 0.5

    def high(audio: np.ndarray) -> float:  # power above 4.5 kHz, beyond narrow band
        power = np.square(np.abs(np.fft.rfft(audio)))
        return power[len(power) * 9 // 16 :].sum() / power.sum()

    assert high(decoded) > 3 * high(classical_codec("opus:6000")(samples)[1])


def likeness(samples: np.ndarray, decoded: np.ndarray) -> float:
    """Return the highest correlation over all delays of the envelopes in steps of 10 ms."""
    a, b = (np.sqrt(np.square(x[: len(x) // 160 * 160].reshape(-1, 160)).mean(1)) for x in
            (samples, decoded))  # fmt: skip
    a, b = a - a.mean(), b - b.mean()
    return float(np.correlate(a, b, "full").max() / np.sqrt((a @ a) * (b @ b) + 1e-12))


def test_names() -> None:
    assert classical_codec("vqasr:4") is None
    for unknown in ("opus", "opus:7", "mulaw:3", "codec2:9"):
        with pytest.raises(VqasrError, match="unknown system"):
            classical_codec(unknown)


def test_missing_programs_are_named(monkeypatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(UnavailableError, match="codec2"):
        classical_codec("codec2:700C")
    with pytest.raises(UnavailableError, match="opus-tools"):
        classical_codec("opuswb:6000")
