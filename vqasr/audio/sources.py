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
            sequence of floats, as `to_mono` takes them; or a dictionary with sampling_rate
            and raw or array, or with bytes or path, as in transformers and datasets.
        sampling_rate: in Hz, of arrays, tensors and sequences; None for 16,000.

    Returns:
        (samples,) float32.

    Raises:
        AudioError: as `read_audio` and `to_mono_16_khz`.
    """
    if isinstance(source, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(
        source, "read"
    ):
        if sampling_rate is not None:
            raise AudioError(
                f"sampling_rate={sampling_rate}: a file states its own. Leave it out; it is for "
                "arrays and tensors."
            )
        return read_audio(source)
    if isinstance(source, Mapping):
        return _of_mapping(source, sampling_rate)
    return to_mono_16_khz(source, SAMPLING_RATE_HZ if sampling_rate is None else sampling_rate)


def as_clips(sounds: Any) -> list[Sound]:
    """Return a list of clips, which one clip becomes too.

    A list or tuple holds clips, unless it holds numbers: those are samples. Everything else is one.

    Raises:
        AudioError: the list is empty.
    """
    if not isinstance(sounds, list | tuple):
        return [sounds]
    if not sounds:
        raise AudioError("audio: an empty list; give at least one clip.")
    return [sounds] if _is_number(sounds[0]) else list(sounds)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) or getattr(value, "ndim", None) == 0


def _of_mapping(source: Mapping[str, Any], sampling_rate: int | None) -> np.ndarray:
    samples = source.get("array") if source.get("raw") is None else source["raw"]
    rate = source.get("sampling_rate") or sampling_rate
    if samples is not None and rate is not None:
        return to_mono_16_khz(samples, rate)
    if encoded := source.get("bytes") or source.get("path"):
        return read_audio(encoded)
    raise AudioError(
        f"audio: a dictionary with {sorted(map(str, source))}; must have sampling_rate and raw "
        "(or array), or bytes or path."
    )
