"""Classical codecs through FFmpeg (PyAV, extra `baselines`) and the programs of Codec2 and Opus.

What is counted are the packets alone. Containers, and the lengths that packets of variable size
would need on the way, come for free: the comparison errs in favour of the classical codecs.
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

from vqasr.audio.files import as_long_as, resample
from vqasr.errors import VqasrError
from vqasr.grid import SAMPLING_RATE_HZ

# Opus narrows the band where it has few bits; FFmpeg cannot forbid it, `opusenc` can.
WIDEBAND_OPUS = "opuswb"
_FORCE_WIDEBAND = "4008=1103"  # OPUS_SET_BANDWIDTH, OPUS_BANDWIDTH_WIDEBAND
CODEC2_MODES = ("3200", "2400", "1600", "1400", "1300", "1200", "700C")


class UnavailableError(VqasrError):
    """A codec that is not installed here; a comparison goes on without it."""


@dataclass(frozen=True)
class FFmpegCodec:
    """How FFmpeg is asked.

    Attributes:
        encoder, decoder: FFmpeg's names.
        rates_bps: bit rates that can be chosen; empty where there is one only.
        rate_hz: sampling rate that it works at.
        sample_format: of the encoder.
        options: of the encoder.
        container: of codecs whose decoder needs to be told how it was encoded.
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
    """(samples,) float32 at 16 kHz -> bytes of its packets, and what is heard of them.

    Args:
        name: "g722", "opus:6000", "opuswb:6000" (wideband forced), "codec2:700C", ...

    Returns:
        The codec; None where no classical codec has that name.

    Raises:
        VqasrError: the codec has no such rate.
        UnavailableError: it is not installed here.
    """
    kind, _, rate = name.partition(":")
    if kind == "codec2":
        _check_rate(name, rate, CODEC2_MODES)
        if shutil.which("c2enc") is None or shutil.which("c2dec") is None:
            raise UnavailableError(f"{name}: c2enc and c2dec are not installed (Debian: codec2).")
        return partial(_codec2, rate)
    forced = kind == WIDEBAND_OPUS
    if kind not in FFMPEG and not forced:
        return None
    codec = FFMPEG["opus" if forced else kind]
    _check_rate(name, rate, tuple(map(str, codec.rates_bps)))
    try:
        av = importlib.import_module("av")
        av.codec.Codec(codec.encoder, "w"), av.codec.Codec(codec.decoder, "r")
    except ImportError as error:
        raise UnavailableError(
            f"{name}: PyAV is not installed. `pip install vqasr[baselines]` brings it."
        ) from error
    except ValueError as error:  # av.codec.UnknownCodecError
        raise UnavailableError(f"{name}: this FFmpeg was built without it ({error}).") from error
    if forced:
        if shutil.which("opusenc") is None:
            raise UnavailableError(f"{name}: opusenc is not installed (Debian: opus-tools).")
        return partial(_wideband_opus, int(rate))
    return partial(_through_ffmpeg, codec, int(rate) if rate else None)


def classical_names() -> list[str]:
    """All names that `classical_codec` knows, one for each rate."""
    names = [
        f"{kind}:{rate}" if codec.rates_bps else kind
        for kind, codec in FFMPEG.items()
        for rate in codec.rates_bps or (0,)
    ]
    names += [f"{WIDEBAND_OPUS}:{rate}" for rate in FFMPEG["opus"].rates_bps]
    return names + [f"codec2:{mode}" for mode in CODEC2_MODES]


def _check_rate(name: str, rate: str, allowed: tuple[str, ...]) -> None:
    if rate not in (allowed or ("",)):
        kind = name.partition(":")[0]
        raise VqasrError(
            f"unknown system {name!r}; there are "
            f"{', '.join(f'{kind}:{r}' for r in allowed) if allowed else kind}."
        )


def _through_ffmpeg(
    codec: FFmpegCodec, rate_bps: int | None, samples: np.ndarray
) -> tuple[int, np.ndarray]:
    av: Any = importlib.import_module("av")
    sound = np.clip(resample(samples, SAMPLING_RATE_HZ, codec.rate_hz), -1.0, 1.0)
    code = _in_container if codec.container else _as_packets
    size, heard = code(av, codec, rate_bps, sound)
    return size, as_long_as(samples, _joined(heard, codec.rate_hz))


def _as_packets(
    av: Any, codec: FFmpegCodec, rate_bps: int | None, sound: np.ndarray
) -> tuple[int, list[Any]]:
    """Bytes of the packets, and decoded frames."""
    encoder = av.CodecContext.create(codec.encoder, "w")
    _settle(encoder, codec, rate_bps)
    packets = [p for frame in _frames(av, codec, encoder, sound) for p in encoder.encode(frame)]
    decoder = av.CodecContext.create(codec.decoder, "r")
    decoder.sample_rate, decoder.layout = codec.rate_hz, "mono"
    if encoder.extradata:
        decoder.extradata = encoder.extradata
    heard = [f for packet in packets for f in decoder.decode(packet)] + decoder.decode(None)
    return sum(packet.size for packet in packets), heard


def _in_container(
    av: Any, codec: FFmpegCodec, rate_bps: int | None, sound: np.ndarray
) -> tuple[int, list[Any]]:
    """The same by way of a file; its header is not counted."""
    file, size = io.BytesIO(), 0
    with av.open(file, "w", format=codec.container) as out:
        stream = out.add_stream(codec.encoder, rate=codec.rate_hz)
        _settle(stream.codec_context, codec, rate_bps)
        for frame in _frames(av, codec, stream.codec_context, sound):
            for packet in stream.encode(frame):
                size += packet.size
                out.mux(packet)
    file.seek(0)
    with av.open(file) as read:
        return size, list(read.decode(audio=0))


def _settle(encoder: Any, codec: FFmpegCodec, rate_bps: int | None) -> None:
    encoder.sample_rate, encoder.layout = codec.rate_hz, "mono"
    encoder.format = codec.sample_format
    if rate_bps:
        encoder.bit_rate = rate_bps
    encoder.options = codec.options


def _frames(av: Any, codec: FFmpegCodec, encoder: Any, sound: np.ndarray) -> Iterator[Any]:
    """Pieces as long as the encoder wants them, and None for the end."""
    if not encoder.is_open:
        encoder.open()
    width = encoder.frame_size or codec.rate_hz // 50
    for start in range(0, len(sound), width):
        yield _frame(av, sound[start : start + width], width, codec)
    yield None


def _frame(av: Any, piece: np.ndarray, width: int, codec: FFmpegCodec) -> Any:
    piece = np.pad(piece, (0, width - len(piece)))
    if codec.sample_format.startswith("s16"):
        piece = np.round(piece * 32767.0).astype(np.int16)
    else:
        piece = piece.astype(np.float32)
    frame = av.AudioFrame.from_ndarray(piece[None], format=codec.sample_format, layout="mono")
    frame.sample_rate = codec.rate_hz
    return frame


def _joined(frames: list[Any], rate_hz: int) -> np.ndarray:
    """Decoded frames -> (samples,) at 16 kHz; rate_hz is for the case that there are none."""
    if not frames:
        return np.zeros(0)
    sound = np.concatenate([_floats(frame) for frame in frames])
    return resample(sound, frames[0].sample_rate or rate_hz, SAMPLING_RATE_HZ)


def _floats(frame: Any) -> np.ndarray:
    values = frame.to_ndarray().reshape(-1)
    return values / 32768.0 if values.dtype == np.int16 else values


def _codec2(mode: str, samples: np.ndarray) -> tuple[int, np.ndarray]:
    sound = np.clip(resample(samples, SAMPLING_RATE_HZ, 8_000), -1.0, 1.0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        soundfile.write(
            folder / "in.raw", sound, 8_000, format="RAW", subtype="PCM_16", endian="LITTLE"
        )
        # One byte a bit: packed, the program fills up each frame to whole bytes (28 bits to 32).
        _call(folder, "c2enc", mode, "in.raw", "bits", "--bitperchar")
        _call(folder, "c2dec", mode, "bits", "out.raw", "--bitperchar")
        size = -(-(folder / "bits").stat().st_size // 8)
        raw = io.BytesIO((folder / "out.raw").read_bytes())
        heard, _ = soundfile.read(
            raw, format="RAW", subtype="PCM_16", endian="LITTLE", samplerate=8_000, channels=1
        )
    return size, as_long_as(samples, resample(heard, 8_000, SAMPLING_RATE_HZ))


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
            size = sum(packet.size for packet in packets)
            heard = [frame for packet in packets for frame in packet.decode()]
    return size, as_long_as(samples, _joined(heard, SAMPLING_RATE_HZ))


def _call(folder: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise VqasrError(f"{' '.join(command)} failed: {done.stderr.strip()}")
