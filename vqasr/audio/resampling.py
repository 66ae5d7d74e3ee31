"""Resampling with torchaudio, in bounded memory for every rate."""

import math
from fractions import Fraction

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
