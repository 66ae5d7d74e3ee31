"""Reading audio with soundfile, as mono samples at 16 kHz; checks of samples."""

import io
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import torch

from vqasr.audio._torchaudio import ensure_torchaudio
from vqasr.errors import AudioError
from vqasr.grid import SAMPLING_RATE_HZ

MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 768_000


def read_audio(source: str | os.PathLike[str] | bytes | BinaryIO) -> np.ndarray:
    """Read an audio file of any rate and channel count.

    Args:
        source: path, the bytes of a file, or a binary file object (WAV, FLAC, Ogg, MP3, ...).

    Returns:
        (samples,) float32 at 16 kHz.

    Raises:
        AudioError: the file is missing, empty or no audio, or holds NaN or infinite samples.
    """
    name = "these bytes" if isinstance(source, bytes) else str(getattr(source, "name", source))
    if isinstance(source, str | os.PathLike) and not Path(source).is_file():
        raise AudioError(f"{source}: no such file.")
    if source == b"" or (isinstance(source, str | os.PathLike) and not Path(source).stat().st_size):
        raise AudioError(f"{name}: empty, 0 bytes. Was the download or the recording interrupted?")
    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        samples, rate_hz = soundfile.read(file, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError, RuntimeError, TypeError) as error:
        raise AudioError(
            f"{name}: cannot be read as audio ({error}). Use WAV, FLAC, Ogg/Opus or MP3; convert "
            "other formats first, for instance with ffmpeg."
        ) from error
    return to_mono_16_khz(samples.T, rate_hz, name)


def to_mono_16_khz(samples: np.ndarray, sampling_rate: int, name: str = "audio") -> np.ndarray:
    """Convert audio to mono and resample it to 16 kHz.

    Args:
        samples: (samples,) or (channels, samples) float.
        sampling_rate: of the samples, in Hz.
        name: of the audio in errors.

    Returns:
        (samples,) float32 at 16 kHz.

    Raises:
        AudioError: empty, NaN or infinite, or an impossible rate.
    """
    _check_float(samples, name)
    samples = np.asarray(samples, dtype=np.float32)
    if samples.ndim == 2:
        samples = samples.mean(axis=0)
    check_samples(samples, name)
    if not MIN_RATE_HZ <= sampling_rate <= MAX_RATE_HZ:
        raise AudioError(
            f"{name}: sampling rate {sampling_rate} Hz; {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz are "
            "accepted."
        )
    return resample(samples, sampling_rate, SAMPLING_RATE_HZ)


def resample(samples: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """Resample (samples,) of any float type to (samples,) float32 at another rate."""
    values = torch.from_numpy(np.asarray(samples, np.float32))
    if from_hz == to_hz or not len(values):
        return values.numpy()
    return ensure_torchaudio().functional.resample(values, from_hz, to_hz).numpy()


def match_length(decoded: np.ndarray, samples: int) -> np.ndarray:
    """Cut (n,) decoded audio, or pad it with zeros, to (samples,) float32."""
    decoded = decoded[:samples].astype(np.float32)
    return np.pad(decoded, (0, samples - len(decoded)))


def _check_float(samples: np.ndarray, name: str) -> None:
    """Raise AudioError for integer PCM, which would be 32,768 times too loud."""
    if not np.issubdtype(np.asarray(samples).dtype, np.floating):
        raise AudioError(
            f"{name}: samples of type {np.asarray(samples).dtype}; must be float in -1 to 1. "
            "Divide 16-bit samples by 32768."
        )


def check_samples(samples: np.ndarray, name: str = "audio") -> None:
    """Raise AudioError unless `samples` is one channel of at least one finite float."""
    _check_float(samples, name)
    if samples.ndim != 1:
        raise AudioError(f"{name}: shape {samples.shape}; must be one channel, (samples,).")
    if samples.size == 0:
        raise AudioError(f"{name}: holds no samples.")
    if not np.isfinite(samples).all():
        bad = int(np.argmin(np.isfinite(samples)))
        raise AudioError(
            f"{name}: sample {bad} is {samples[bad]}; NaN and infinite samples cannot be encoded. "
            "Repair the recording, for instance with numpy.nan_to_num."
        )
