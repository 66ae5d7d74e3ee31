"""One rule for samples in memory: mono float32, from arrays, tensors and sequences."""

import warnings
from typing import Any

import numpy as np

from vqasr.errors import AudioError, AudioWarning

# In a two-dimensional array, the axis of the channels has at most this many entries.
MOST_CHANNELS = 32
# Samples in the scale of 16-bit integers are taken for a mistake; floating-point files exceed 1.0
# by a few decibels only.
LARGEST_SAMPLE = 256.0
# The mean of the channels has at least this share of their power, or they cancel each other.
LEAST_SHARED_POWER = 0.01
SHAPES = "(samples,), (channels, samples) or (samples, channels)"


def to_mono(samples: Any, name: str = "audio") -> np.ndarray:
    """Convert samples to one channel of native float32.

    Args:
        samples: array, tensor (any device, with or without gradient) or sequence of any float type,
            in -1 to 1: (samples,), (channels, samples) or (samples, channels) with at most 32
            channels, which are averaged.
        name: of the audio in errors.

    Returns:
        (samples,) float32, contiguous and writable; a copy unless it was that already.

    Raises:
        AudioError: another shape or type, empty, NaN, infinite, or in the scale of 16-bit integers.

    Warns:
        AudioWarning: the channels cancel each other; the loudest one is taken.
    """
    values = as_float(samples, name)
    if values.ndim == 2 and values.size:
        values = _mix(values, name)
    check_samples(values, name)
    return values if values.flags.writeable and values.flags.c_contiguous else values.copy()


def frames_to_mono(frames: np.ndarray, name: str = "audio") -> np.ndarray:
    """Convert (frames, channels) floats of a file to mono, as `to_mono` does."""
    # As few frames as these could not be told from channels.
    return to_mono(frames.mean(1) if len(frames) <= MOST_CHANNELS else frames.T, name)


def to_pcm(samples: np.ndarray) -> bytes:
    """Convert (samples,) floats to 16-bit little-endian samples, clipped."""
    rounded = np.rint(samples * np.float32(32768.0))
    return np.clip(rounded, -32768, 32767).astype("<i2").tobytes()


def as_float(samples: Any, name: str = "audio") -> np.ndarray:
    """Convert to native float32 of the same shape; raise AudioError unless it holds floats."""
    if hasattr(samples, "detach"):  # a torch tensor; numpy has no bfloat16
        samples = samples.detach()
        samples = (samples.float() if samples.is_floating_point() else samples).cpu().numpy()
    try:
        values = np.asarray(samples)
    except (ValueError, TypeError) as error:
        raise AudioError(f"{name}: no array of samples ({error}); {SHAPES} is needed.") from error
    if values.dtype == object:
        raise AudioError(
            f"{name}: samples of type object: one recording is needed, as an array of floats "
            f"({SHAPES}). Give several recordings one after the other."
        )
    if values.size and not np.issubdtype(values.dtype, np.floating):
        raise AudioError(
            f"{name}: samples of type {values.dtype}; must be float in -1 to 1. Divide 16-bit "
            "samples by 32768."
        )
    with np.errstate(over="ignore"):  # too large for float32: infinite, which is refused
        return values.astype(np.float32, copy=False)


def check_samples(samples: np.ndarray, name: str = "audio") -> None:
    """Raise AudioError unless `samples` is one channel of at least one finite float in range."""
    if samples.ndim != 1:
        raise AudioError(f"{name}: shape {samples.shape}; must be {SHAPES}.")
    if samples.size == 0:
        raise AudioError(f"{name}: holds no samples.")
    if not np.isfinite(samples).all():
        bad = int(np.argmin(np.isfinite(samples)))
        raise AudioError(
            f"{name}: sample {bad} is {samples[bad]}; NaN and infinite samples cannot be encoded. "
            "Repair the recording, for instance with numpy.nan_to_num."
        )
    if (peak := float(np.abs(samples).max())) > LARGEST_SAMPLE:
        raise AudioError(
            f"{name}: samples up to {peak:g}; must be float in -1 to 1. Divide 16-bit samples by "
            "32768."
        )


def _mix(values: np.ndarray, name: str) -> np.ndarray:
    """Average the channels of a two-dimensional array."""
    short = int(np.argmin(values.shape))
    if values.shape[short] > MOST_CHANNELS or (values.shape[0] == values.shape[1] > 1):
        raise AudioError(
            f"{name}: shape {values.shape}; channels and samples cannot be told apart. "
            f"{SHAPES} is needed, with at most {MOST_CHANNELS} channels; several clips are a list."
        )
    channels = np.moveaxis(values, short, 0)
    if len(channels) == 1:
        return np.ascontiguousarray(channels[0])
    alone = lone_channel(channels, name)
    mono = channels.mean(axis=0, dtype=np.float32) if alone is None else channels[alone]
    return np.ascontiguousarray(mono)


def lone_channel(channels: np.ndarray, name: str = "audio") -> int | None:
    """Return the loudest of (channels, samples) if their mean would cancel them; None otherwise.

    Warns:
        AudioWarning: they cancel each other.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        power = np.square(channels, dtype=np.float64).mean(axis=1)
        mono = channels.mean(axis=0, dtype=np.float32)
        cancelled = np.square(mono, dtype=np.float64).mean() < LEAST_SHARED_POWER * power.mean()
    # Two independent channels keep half of their power, 32 keep a thirty-second.
    if not cancelled or not 1 < len(channels) <= 8:
        return None
    loudest = int(np.argmax(power))
    warnings.warn(
        f"{name}: the {len(channels)} channels cancel each other (opposite phase); channel "
        f"{loudest + 1} is used alone.",
        AudioWarning,
        stacklevel=4,
    )
    return loudest
