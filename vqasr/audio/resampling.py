"""Resampling with torchaudio, in bounded memory for every rate."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from vqasr.audio._torchaudio import ensure_torchaudio
from vqasr.audio.acoustics import change_speed
from vqasr.errors import AudioError

MIN_RATE_HZ, MAX_RATE_HZ = 4_000, 768_000
# torchaudio's filter bank has about numerator x denominator entries of the reduced ratio of rates.
# Odd ratios, such as 47,999 to 16,000, are replaced by the nearest with at most this many entries,
# which is wrong by at most 0.025 %; the rest is done in the frequency domain.
MOST_ENTRIES = 4_000_000


def resample(samples: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    """Resample (samples,) of any float type to (ceil(samples x to_hz / from_hz),) float32."""
    values = np.ascontiguousarray(samples, np.float32)
    if from_hz == to_hz or not len(values):
        return values
    ratio = near_ratio(from_hz, to_hz)
    functional = ensure_torchaudio().functional
    tensor = torch.from_numpy(values if values.flags.writeable else values.copy())
    resampled: np.ndarray = functional.resample(tensor, ratio.numerator, ratio.denominator).numpy()
    length = -(-len(values) * to_hz // from_hz)
    if ratio != Fraction(from_hz, to_hz):
        resampled = change_speed(resampled, len(resampled) / length)
    return match_length(resampled, length)


class LiveResampler:
    """Resample one recording piece by piece to the samples of `resample`.

    Odd rates, for which `near_ratio` differs from the ratio, are wrong by at most 0.025 %.

    Args:
        from_hz, to_hz: sampling rates.
    """

    def __init__(self, from_hz: int, to_hz: int):
        ratio = near_ratio(from_hz, to_hz)
        self._step, self._new = ratio.numerator, ratio.denominator
        self._resample: Any = None
        if ratio != 1:
            transforms = ensure_torchaudio().transforms
            # `resample` computes its filters in float32, too.
            self._resample = transforms.Resample(self._step, self._new, dtype=torch.float32)
            # Whole steps at each side that the filter reaches into.
            self._context = -(-self._resample.width // self._step)
        self._buffer = np.zeros(0, np.float32)
        self._before = 0  # steps of the buffer that are context
        self._read = self._written = 0  # samples

    def needed(self, count: int) -> int:
        """Return the number of samples to begin with that make `count` samples complete."""
        if self._resample is None:
            return count
        return (-(-count // self._new) + self._context) * self._step

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Take the next (samples,) float32; return the (samples,) float32 that are complete."""
        if self._resample is None:
            return samples
        self._read += len(samples)
        self._buffer = np.concatenate([self._buffer, samples])
        steps = len(self._buffer) // self._step - self._before - self._context
        return self._next(steps, self._buffer) if steps > 0 else self._buffer[:0]

    def finish(self) -> np.ndarray:
        """End the recording; return its last samples."""
        if self._resample is None:
            return self._buffer
        steps = -(-len(self._buffer) // self._step) - self._before
        missing = -(-self._read * self._new // self._step) - self._written
        padded = np.pad(self._buffer, (0, (self._context + 1) * self._step))
        return self._next(steps, padded)[:missing]

    def _next(self, steps: int, buffer: np.ndarray) -> np.ndarray:
        """Resample that many steps; drop what no later sample needs."""
        done = self._before + steps
        window = torch.from_numpy(buffer[: (done + self._context) * self._step].copy())
        resampled: np.ndarray = self._resample(window).numpy()
        resampled = resampled[self._before * self._new : done * self._new]
        self._before = min(done, self._context)
        self._buffer = buffer[(done - self._before) * self._step :]
        self._written += len(resampled)
        return resampled


def near_ratio(from_hz: int, to_hz: int) -> Fraction:
    """Return from_hz / to_hz, or the nearest ratio with a filter bank of bounded size."""
    ratio = Fraction(from_hz, to_hz)
    if ratio.numerator * ratio.denominator <= MOST_ENTRIES:
        return ratio
    return ratio.limit_denominator(max(1, math.isqrt(int(MOST_ENTRIES / ratio))))


def check_rate(sampling_rate: object, name: str = "audio") -> int:
    """Return a sampling rate in Hz as an int; raise AudioError unless it is a whole number."""
    try:
        rate = int(sampling_rate)  # type: ignore[call-overload]
        whole = rate == float(sampling_rate)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        rate, whole = 0, False
    if not whole or isinstance(sampling_rate, bool) or not MIN_RATE_HZ <= rate <= MAX_RATE_HZ:
        raise AudioError(
            f"{name}: sampling rate {sampling_rate!r} Hz; whole numbers from {MIN_RATE_HZ} to "
            f"{MAX_RATE_HZ} are accepted."
        )
    return rate


def match_length(decoded: np.ndarray, samples: int) -> np.ndarray:
    """Cut (n,) decoded audio, or pad it with zeros, to (samples,) float32."""
    decoded = decoded[:samples].astype(np.float32, copy=False)
    return np.pad(decoded, (0, samples - len(decoded)))
