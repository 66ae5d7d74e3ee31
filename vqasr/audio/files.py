"""Reading audio with soundfile, or with PyAV where soundfile cannot, as mono samples at 16 kHz."""

import io
import os
import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import soundfile

from vqasr.audio.arrays import frames_to_mono, to_mono
from vqasr.audio.containers import Part, parts
from vqasr.audio.resampling import check_rate, resample
from vqasr.errors import AudioError, AudioWarning
from vqasr.grid import SAMPLING_RATE_HZ

BLOCK_FRAMES = 1 << 18
# A difference of less than this between promised and read is padding of the format.
LEAST_DIFFERENCE_S = 0.2


class _File(io.BytesIO):
    """Bytes for libsndfile, which seeks before the start of damaged files."""

    def seek(self, offset: int, whence: int = 0) -> int:
        return super().seek(max(0, offset) if whence == 0 else offset, whence)


def read_audio(
    source: str | os.PathLike[str] | bytes | BinaryIO, name: str | None = None
) -> np.ndarray:
    """Read an audio file of any rate and channel count.

    Args:
        source: path, also of a pipe; the bytes of a file; or a binary file object. WAV, FLAC, Ogg,
            MP3 and what else libsndfile reads; with the extra `formats` also M4A, AAC, WebM and
            what else FFmpeg reads.
        name: of the file in errors; None for its path.

    Returns:
        (samples,) float32 at 16 kHz, all that the file holds.

    Raises:
        AudioError: the file is missing, empty or no audio, or holds NaN or infinite samples.

    Warns:
        AudioWarning: the header promises another duration, the file is cut off or holds several
            recordings, a part was skipped, or its channels cancel each other.
    """
    data, own_name = _content(source)
    name = own_name if name is None else name
    if not data:
        raise AudioError(f"{name}: empty, 0 bytes. Was the download or the recording interrupted?")
    pieces: list[np.ndarray] = []
    found = [*parts(data)]
    for number, part in enumerate(found, 1):
        try:
            pieces.append(_read_part(part, name))
        except AudioError as error:
            if len(found) == 1:
                raise
            _warn(f"{name}: part {number} of {len(found)} was skipped ({error})")
    if not pieces:
        raise AudioError(f"{name}: none of its {len(found)} parts can be read as audio.")
    if len(found) == 1:
        return pieces[0]
    whole = np.concatenate(pieces)
    _warn(
        f"{name}: {len(found)} recordings in one file; all {len(whole) / SAMPLING_RATE_HZ:.2f} s "
        "are read."
    )
    return whole


def to_mono_16_khz(samples: Any, sampling_rate: int, name: str = "audio") -> np.ndarray:
    """Convert audio to mono and resample it to 16 kHz.

    Args:
        samples: as `to_mono` takes them.
        sampling_rate: of the samples, in Hz.
        name: of the audio in errors.

    Returns:
        (samples,) float32 at 16 kHz.

    Raises:
        AudioError: see `to_mono`; or an impossible rate.
    """
    rate_hz = check_rate(sampling_rate, name)
    return resample(to_mono(samples, name), rate_hz, SAMPLING_RATE_HZ)


def _content(source: str | os.PathLike[str] | bytes | BinaryIO) -> tuple[bytes, str]:
    """Return all bytes, and a name for errors."""
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source), "these bytes"
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        if not path.exists():
            raise AudioError(f"{source}: no such file.")
        try:
            return path.read_bytes(), str(source)
        except OSError as error:
            raise AudioError(f"{source}: {error.strerror or error}.") from error
    name = str(getattr(source, "name", source))
    try:
        content = source.read()
    except (OSError, ValueError) as error:
        raise AudioError(f"{name}: cannot be read ({error}).") from error
    if not isinstance(content, bytes | bytearray | memoryview):
        raise AudioError(f"{name}: a text file; open it in binary mode, as 'rb'.")
    return bytes(content), name


def _read_part(part: Part, name: str) -> np.ndarray:
    try:
        samples, rate_hz, promised = _with_soundfile(part.data)
    except (soundfile.LibsndfileError, OSError, RuntimeError, TypeError) as error:
        samples, rate_hz, promised = *_with_pyav(part.data, name, error), None
    read_s = len(samples) / rate_hz
    promised_s = None if promised is None else promised / rate_hz
    if part.promised is not None:
        promised_s = part.promised * read_s
    if promised_s is not None and abs(promised_s - read_s) > LEAST_DIFFERENCE_S:
        _warn(f"{name}: the header promises {promised_s:.2f} s, the file holds {read_s:.2f} s.")
    elif part.cut:
        _warn(f"{name}: the file is cut off after {read_s:.2f} s; its end is missing.")
    if not len(samples):
        raise AudioError(f"{name}: holds no samples. Was the recording interrupted?")
    return to_mono_16_khz(frames_to_mono(samples, name), rate_hz, name)


def _with_soundfile(data: bytes) -> tuple[np.ndarray, int, int | None]:
    """Return (frames, channels) float32, their rate in Hz and the frames that the header has."""
    with soundfile.SoundFile(_File(data)) as file:
        blocks: list[np.ndarray] = []
        try:
            # Without it, libsndfile 1.2.2 returns Opus 6.5 ms late if the first read is a long one.
            file.seek(0)
            while len(block := file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)):
                blocks.append(block)
        except soundfile.LibsndfileError:  # damaged from here on
            if not blocks:
                blocks = _small_blocks(data)
        empty = np.zeros((0, file.channels), np.float32)
        promised = file.frames if 0 < file.frames < 1 << 48 else None
        return np.concatenate([empty, *blocks]), file.samplerate, promised


def _small_blocks(data: bytes) -> list[np.ndarray]:
    """Read up to the damage, in blocks of a few frames of the codec."""
    blocks: list[np.ndarray] = []
    with soundfile.SoundFile(_File(data)) as file:
        try:
            while len(block := file.read(1024, dtype="float32", always_2d=True)):
                blocks.append(block)
        except soundfile.LibsndfileError:
            if not blocks:
                raise
    return blocks


def _with_pyav(data: bytes, name: str, reason: Exception) -> tuple[np.ndarray, int]:
    """Return (frames, 1) float32 of the first audio track, and its rate in Hz."""
    try:
        import av
    except ImportError:
        raise AudioError(
            f"{name}: cannot be read as audio ({_described(reason)}). WAV, FLAC, Ogg/Opus and MP3 "
            "are read; for M4A, AAC, WebM and others: pip install 'vqasr[formats]'."
        ) from reason
    blocks: list[np.ndarray] = []
    try:
        opened: Any = av.open(io.BytesIO(data))
        with opened as container:
            track: Any = next(iter(container.streams.audio), None)
            if track is None or track.codec_context is None or not track.codec_context.sample_rate:
                raise AudioError(f"{name}: holds no audio track that can be decoded.")
            rate_hz = track.codec_context.sample_rate
            mono = av.AudioResampler(format="flt", layout="mono", rate=rate_hz)
            frames = container.decode(audio=0)
            while True:
                try:
                    frame = next(frames, None)
                except av.error.FFmpegError:
                    if not blocks:
                        raise
                    frame = None  # damaged from here on
                blocks += [f.to_ndarray().reshape(-1, 1) for f in mono.resample(frame)]
                if frame is None:
                    break
    except (av.error.FFmpegError, ValueError, IndexError) as error:
        raise AudioError(
            f"{name}: cannot be read as audio ({_described(reason)}; {_described(error)}). Is it "
            "an audio file?"
        ) from error
    if not blocks:
        raise AudioError(f"{name}: holds no samples. Was the recording interrupted?")
    return np.concatenate(blocks), rate_hz


def _described(error: Exception) -> str:
    """Return the message of a library's error, without the objects that it names."""
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return str(text).rstrip(".")


def _warn(message: str) -> None:
    warnings.warn(message, AudioWarning, stacklevel=4)
