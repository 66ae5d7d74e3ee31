"""Predict how decoded speech sounds to listeners, from recording and decoded audio.

PESQ (ITU-T P.862.2, wideband) by the package `pesq`, STOI (Taal et al. 2011) and ESTOI (Jensen and
Taal 2016) by `pystoi`. They compare waveforms in short windows, and were made for codecs that keep
them.
"""

import importlib.util
import logging
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from vqasr.errors import VqasrError
from vqasr.grid import SAMPLING_RATE_HZ

MEASURES = ("pesq_wb", "stoi", "estoi")
PACKAGES = {"pesq_wb": "pesq", "stoi": "pystoi", "estoi": "pystoi"}

logger = logging.getLogger("vqasr")


def measures_available() -> list[str]:
    """Return the measures whose packages are installed, and log the others.

    Raises:
        VqasrError: none is installed.
    """
    found = [m for m in MEASURES if importlib.util.find_spec(PACKAGES[m]) is not None]
    if not found:
        raise VqasrError("listening measures need packages: pip install 'vqasr[listening]'.")
    if missing := sorted({PACKAGES[m] for m in MEASURES} - {PACKAGES[m] for m in found}):
        logger.warning("left out: %s is not installed: pip install 'vqasr[listening]'", missing[0])
    return found


def listening_scores(
    recorded: list[np.ndarray], decode: Callable[[np.ndarray], np.ndarray | None]
) -> dict[str, Any]:
    """Score decoded audio, as means over the clips that can be scored.

    PESQ needs speech of at least a quarter of a second, STOI 0.4 s of it.

    Args:
        recorded: each (samples,) float32 at 16 kHz.
        decode: encodes and decodes a clip; None if a system makes no audio.

    Returns:
        the available `MEASURES` and "listening_clips", the number of clips that were scored; all
        None if there is no audio.
    """
    names = measures_available()
    scores: dict[str, list[float]] = {name: [] for name in names}
    for clip in recorded:
        decoded = decode(clip)
        if decoded is None:
            return dict.fromkeys((*names, "listening_clips"))
        if len(decoded) != len(clip):
            raise VqasrError(f"decoded audio has {len(decoded)} samples, the clip {len(clip)}.")
        values = {name: _score(name, clip, decoded) for name in names}
        if all(value is not None for value in values.values()):
            for name, value in values.items():
                scores[name].append(value)  # type: ignore[arg-type]  # none is None
    clips = len(scores[names[0]])
    means = {n: round(float(np.mean(v)), 4) if v else None for n, v in scores.items()}
    return means | {"listening_clips": clips}


def _score(name: str, clip: np.ndarray, decoded: np.ndarray) -> float | None:
    """Score one clip; None if it holds too little speech."""
    if not (clip.any() and decoded.any()):
        return None
    if name == "pesq_wb":
        import pesq

        try:
            return float(pesq.pesq(SAMPLING_RATE_HZ, clip, decoded, "wb"))
        except pesq.PesqError:  # no utterance was found, or the clip is too short
            return None
    import pystoi

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(pystoi.stoi(clip, decoded, SAMPLING_RATE_HZ, extended=name == "estoi"))
        except (RuntimeWarning, ValueError):  # too few frames with speech
            return None
