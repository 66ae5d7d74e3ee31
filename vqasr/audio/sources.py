"""Loading audio from files, bytes, arrays, tensors and rows of data sets."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from vqasr.audio.files import read_audio, to_mono_16_khz
from vqasr.errors import AudioError
from vqasr.grid import SAMPLING_RATE_HZ

Sound = Any  # path, bytes, binary file, array, tensor, sequence of floats, or dictionary


def load_audio(source: Sound, sampling_rate: int | None = None) -> np.ndarray:
    """Load audio as mono samples at 16 kHz.

    Args:
        source: path, bytes or binary file object of an audio file; samples as an array, tensor or
            sequence of floats, as `to_mono_16_khz` takes them; or a dictionary with sampling_rate
            and raw or array, or with bytes or path, as in transformers and datasets.
        sampling_rate: in Hz, of arrays, tensors and sequences; None for 16,000.

    Returns:
        (samples,) float32.

    Raises:
        AudioError: as `read_audio` and `to_mono_16_khz`.
    """
    if isinstance(source, str | os.PathLike | bytes) or hasattr(source, "read"):
        return read_audio(source)
    if isinstance(source, Mapping):
        return _of_mapping(source, sampling_rate)
    return to_mono_16_khz(_as_array(source), sampling_rate or SAMPLING_RATE_HZ)


def _as_array(samples: Any) -> np.ndarray:
    if hasattr(samples, "detach"):  # a torch tensor, on any device
        samples = samples.detach().cpu().numpy()
    return np.asarray(samples)


def _of_mapping(source: Mapping[str, Any], sampling_rate: int | None) -> np.ndarray:
    samples = source.get("array") if source.get("raw") is None else source["raw"]
    rate = source.get("sampling_rate", sampling_rate)
    if samples is not None and rate is not None:
        return to_mono_16_khz(_as_array(samples), int(rate))
    if encoded := source.get("bytes") or source.get("path"):
        return read_audio(encoded)
    raise AudioError(
        f"audio: a dictionary with {sorted(map(str, source))}; must have sampling_rate and raw "
        "(or array), or bytes or path."
    )
