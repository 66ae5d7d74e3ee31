"""Audio from whatever holds it: files, bytes, arrays, tensors, rows of data sets."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from vqasr.audio.files import read_audio, to_mono_16_khz
from vqasr.errors import AudioError
from vqasr.grid import SAMPLING_RATE_HZ

Sound = Any  # path, bytes, binary file, array, tensor, sequence of floats, or dictionary


def load_audio(source: Sound, sampling_rate: int | None = None, name: str = "audio") -> np.ndarray:
    """Return mono samples at 16 kHz.

    Args:
        source: path, bytes or binary file object of an audio file; samples as an array, tensor or
            sequence of floats, as `to_mono_16_khz` takes them; or a dictionary with sampling_rate
            and raw or array, or with bytes or path, as in transformers and datasets.
        sampling_rate: of samples that do not say it, in Hz; None for 16,000.
        name: of the audio in errors.

    Returns:
        (samples,) float32.

    Raises:
        AudioError: it cannot be read; see `read_audio` and `to_mono_16_khz`.
    """
    if isinstance(source, str | os.PathLike | bytes) or hasattr(source, "read"):
        return read_audio(source)
    if isinstance(source, Mapping):
        return _of_mapping(source, sampling_rate, name)
    return to_mono_16_khz(as_array(source), sampling_rate or SAMPLING_RATE_HZ, name)


def as_array(samples: Any) -> np.ndarray:
    """Turn a tensor or sequence into an array."""
    if hasattr(samples, "detach"):  # a torch tensor, on any device
        samples = samples.detach().cpu().numpy()
    return np.asarray(samples)


def _of_mapping(source: Mapping[str, Any], sampling_rate: int | None, name: str) -> np.ndarray:
    for key in ("raw", "array"):
        if source.get(key) is not None:
            rate = source.get("sampling_rate", sampling_rate)
            if rate is None:
                break
            return to_mono_16_khz(as_array(source[key]), int(rate), name)
    for key in ("bytes", "path"):
        if source.get(key):
            return read_audio(source[key])
    raise AudioError(
        f"{name}: a dictionary with {sorted(map(str, source))}; sampling_rate and raw (or array), "
        "or bytes or path are needed."
    )
