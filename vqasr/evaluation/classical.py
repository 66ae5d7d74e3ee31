"""Classical codecs through FFmpeg (PyAV, extra `baselines`) and the programs of Codec2 and Opus.

Only packets are counted. Containers, and the length fields that packets of variable size need in
transport, are free: the comparison favours the classical codecs.
"""

import importlib
import io
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from vqasr.audio.resampling import match_length, resample
from vqasr.errors import VqasrError
from vqasr.grid import SAMPLING_RATE_HZ

# Opus reduces the bandwidth at low bitrates; `opusenc` can force wideband, FFmpeg cannot.
WIDEBAND_OPUS = "opuswb"
_FORCE_WIDEBAND = "4008=1103"  # OPUS_SET_BANDWIDTH, OPUS_BANDWIDTH_WIDEBAND
CODEC2_MODES = ("3200", "2400", "1600", "1400", "1300", "1200", "700C")


class UnavailableError(VqasrError):
    """A codec that is not installed; a comparison continues without it."""


@dataclass(frozen=True)
class FFmpegCodec:
    """Settings of a codec in FFmpeg.

    Attributes:
        encoder, decoder: FFmpeg's names.
        rates_bps: possible bitrates; empty if there is only one.
        rate_hz: sampling rate of its input.
        sample_format: of the encoder.
        options: of the encoder.
        container: for codecs whose decoder reads its settings from a file header.
    """

    encoder: str
    decoder: str
    rates_bps: tuple[int, ...] = ()
    rate_hz: int = SAMPLING_RATE_HZ
    sample_format: str = "s16"
    options: dict[str, str] = field(default_factory=dict)
    container: str | None = None


_SPEECH = {"application": "voip", "frame_duration": "60", "vbr": "on"}
FFMPEG = {
    "mulaw": FFmpegCodec("pcm_mulaw", "pcm_mulaw", rate_hz=8_000),
    "adpcm": FFmpegCodec(
        "adpcm_ima_wav", "adpcm_ima_wav", sample_format="s16p", container="wav"
    ),
    "g726": FFmpegCodec(
        "adpcm_g726", "adpcm_g726", (16_000, 24_000, 32_000, 40_000), 8_000, container="wav"
    ),
    "g722": FFmpegCodec("g722", "g722"),
    "g723": FFmpegCodec("g723_1", "g723_1", (6_300,), 8_000),
    "sbc": FFmpegCodec("sbc", "sbc", (32_000, 48_000, 64_000)),
    "mp3": FFmpegCodec(
        "libmp3lame", "mp3float", (8_000, 16_000, 24_000, 32_000, 64_000), sample_format="fltp"
    ),
    "opus": FFmpegCodec(
        "libopus", "libopus", (6_000, 8_000, 12_000, 16_000, 24_000), options=_SPEECH
    ),
    "amrnb": FFmpegCodec(
        "libopencore_amrnb", "libopencore_amrnb",
        (4_750, 5_150, 5_900, 6_700, 7_400, 7_950, 10_200, 12_200), 8_000,
    ),
}  # fmt: skip


def classical_codec(name: str) -> Callable[[np.ndarray], tuple[int, np.ndarray]] | None:
    """Return a function from (samples,) float32 at 16 kHz to (bytes of packets, decoded samples).

    Args:
        name: "g722", "opus:6000", "opuswb:6000" (wideband forced), "codec2:700C", ...

    Returns:
        The codec; None if no classical codec has that name.

    Raises:
        VqasrError: the codec has no such rate.
        UnavailableError: the codec is not installed.
    """
    kind, _, rate = name.partition(":")
    allowed = [n for n in classical_names() if n.partition(":")[0] == kind]
    if not allowed:
        return None
    if name not in allowed:
        raise VqasrError(f"unknown system {name!r}. Use {', '.join(allowed)}.")
    if kind == "codec2":
        if shutil.which("c2enc") is None or shutil.which("c2dec") is None:
            raise UnavailableError(f"{name}: c2enc and c2dec are not installed (Debian: codec2).")
        return partial(_codec2, rate)
    codec = FFMPEG["opus" if kind == WIDEBAND_OPUS else kind]
    try:
        av = importlib.import_module("av")
        av.codec.Codec(codec.encoder, "w"), av.codec.Codec(codec.decoder, "r")
    except ImportError as error:
        raise UnavailableError(
            f"{name}: PyAV is not installed. Run `pip install vqasr[baselines]`."
        ) from error
    except ValueError as error:  # av.codec.UnknownCodecError
        raise UnavailableError(f"{name}: this FFmpeg was built without it ({error}).") from error
    if kind == WIDEBAND_OPUS:
        if shutil.which("opusenc") is None:
            raise UnavailableError(f"{name}: opusenc is not installed (Debian: opus-tools).")
        return partial(_wideband_opus, int(rate))
    return partial(_ffmpeg, codec, int(rate) if rate else None)


def classical_names() -> list[str]:
    """List all names that `classical_codec` accepts, one for each rate."""
    names = [
        f"{kind}:{rate}" if codec.rates_bps else kind
        for kind, codec in FFMPEG.items()
        for rate in codec.rates_bps or (0,)
    ]
    names += [f"{WIDEBAND_OPUS}:{rate}" for rate in FFMPEG["opus"].rates_bps]
    return names + [f"codec2:{mode}" for mode in CODEC2_MODES]


def _ffmpeg(
    codec: FFmpegCodec, rate_bps: int | None, samples: np.ndarray
) -> tuple[int, np.ndarray]:
    av: Any = importlib.import_module("av")
    audio = np.clip(resample(samples, SAMPLING_RATE_HZ, codec.rate_hz), -1.0, 1.0)
    transcode = _by_container if codec.container else _by_packets
    size, frames = transcode(av, codec, rate_bps, audio)
    return size, match_length(_concatenate(frames, codec.rate_hz), len(samples))


def _by_packets(
    av: Any, codec: FFmpegCodec, rate_bps: int | None, audio: np.ndarray
) -> tuple[int, list[Any]]:
    """Return the bytes of the packets, and the decoded frames."""
    encoder = av.CodecContext.create(codec.encoder, "w")
    _configure(encoder, codec, rate_bps)
    packets = [p for frame in _frames(av, codec, encoder, audio) for p in encoder.encode(frame)]
    decoder = av.CodecContext.create(codec.decoder, "r")
    decoder.sample_rate, decoder.layout = codec.rate_hz, "mono"
    if encoder.extradata:
        decoder.extradata = encoder.extradata
    frames = [f for packet in packets for f in decoder.decode(packet)] + decoder.decode(None)
    return sum(packet.size for packet in packets), frames


def _by_container(
    av: Any, codec: FFmpegCodec, rate_bps: int | None, audio: np.ndarray
) -> tuple[int, list[Any]]:
    """Do the same through a file, whose header is not counted."""
    file, size = io.BytesIO(), 0
    with av.open(file, "w", format=codec.container) as out:
        stream = out.add_stream(codec.encoder, rate=codec.rate_hz)
        _configure(stream.codec_context, codec, rate_bps)
        for frame in _frames(av, codec, stream.codec_context, audio):
            for packet in stream.encode(frame):
                size += packet.size
                out.mux(packet)
    file.seek(0)
    with av.open(file) as read:
        return size, list(read.decode(audio=0))


def _configure(encoder: Any, codec: FFmpegCodec, rate_bps: int | None) -> None:
    encoder.sample_rate, encoder.layout = codec.rate_hz, "mono"
    encoder.format = codec.sample_format
    if rate_bps:
        encoder.bit_rate = rate_bps
    encoder.options = codec.options


def _frames(av: Any, codec: FFmpegCodec, encoder: Any, audio: np.ndarray) -> Iterator[Any]:
    """Cut audio into frames of the encoder's length; None flushes it."""
    if not encoder.is_open:
        encoder.open()
    width = encoder.frame_size or codec.rate_hz // 50
    audio = np.pad(audio, (0, -len(audio) % width))
    if codec.sample_format.startswith("s16"):
        audio = np.round(audio * 32767.0).astype(np.int16)
    else:
        audio = audio.astype(np.float32)
    for values in audio.reshape(-1, 1, width):
        frame = av.AudioFrame.from_ndarray(values, format=codec.sample_format, layout="mono")
        frame.sample_rate = codec.rate_hz
        yield frame
    yield None


def _concatenate(frames: list[Any], rate_hz: int) -> np.ndarray:
    """Join decoded frames to (samples,) at 16 kHz; rate_hz is the default of their rate."""
    if not frames:
        return np.zeros(0)
    audio = np.concatenate([frame.to_ndarray().reshape(-1) for frame in frames])
    if audio.dtype == np.int16:
        audio = audio / 32768.0
    return resample(audio, frames[0].sample_rate or rate_hz, SAMPLING_RATE_HZ)


def _codec2(mode: str, samples: np.ndarray) -> tuple[int, np.ndarray]:
    audio = np.clip(resample(samples, SAMPLING_RATE_HZ, 8_000), -1.0, 1.0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        soundfile.write(
            folder / "in.raw", audio, 8_000, format="RAW", subtype="PCM_16", endian="LITTLE"
        )
        # One byte per bit: packed, c2enc pads each frame to whole bytes (28 bits to 32).
        _call(folder, "c2enc", mode, "in.raw", "bits", "--bitperchar")
        _call(folder, "c2dec", mode, "bits", "out.raw", "--bitperchar")
        size = -(-(folder / "bits").stat().st_size // 8)
        decoded = np.fromfile(folder / "out.raw", "<i2") / 32768.0
    return size, match_length(resample(decoded, 8_000, SAMPLING_RATE_HZ), len(samples))


def _wideband_opus(rate_bps: int, samples: np.ndarray) -> tuple[int, np.ndarray]:
    av: Any = importlib.import_module("av")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        soundfile.write(folder / "in.wav", np.clip(samples, -1.0, 1.0), SAMPLING_RATE_HZ)
        _call(
            folder, "opusenc", "--quiet", "--vbr", "--speech", "--framesize", "60",
            "--bitrate", f"{rate_bps / 1000:g}", "--set-ctl-int", _FORCE_WIDEBAND,
            "in.wav", "out.opus",
        )  # fmt: skip
        with av.open(str(folder / "out.opus")) as file:
            packets = [packet for packet in file.demux(audio=0) if packet.size]
            frames = [frame for packet in packets for frame in packet.decode()]
            size = sum(packet.size for packet in packets)
    return size, match_length(_concatenate(frames, SAMPLING_RATE_HZ), len(samples))


def _call(folder: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise VqasrError(f"{' '.join(command)} failed: {done.stderr.strip()}")
