"""Predict how decoded speech sounds to listeners, from recording and decoded audio.

PESQ (ITU-T P.862.2, wideband) by the package `pesq`, STOI (Taal et al. 2011) and ESTOI (Jensen and
Taal 2016) by `pystoi`. They compare waveforms in short windows, and were made for codecs that keep
them. The fundamental frequency is that of Praat (Boersma 1993) by the package `praat-parselmouth`,
the similarity of voices that of the speaker embeddings of `resemblyzer` (`voices`).
"""

import importlib.util
import logging
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from vqasr.audio.pitch import track_pitch
from vqasr.errors import VqasrError
from vqasr.evaluation import voices
from vqasr.grid import SAMPLING_RATE_HZ

MODULES = {
    "pesq_wb": "pesq", "stoi": "pystoi", "estoi": "pystoi", "f0_error_cents": "parselmouth",
    "voicing_error": "parselmouth", "speaker_similarity": voices.PACKAGE,
}  # fmt: skip
MEASURES = tuple(MODULES)
EXTRA = "pip install 'vqasr[listening]'"
# A larger difference is an octave error of the codec or the tracker; the median ignores it.
CENTS_PER_OCTAVE = 1200.0

logger = logging.getLogger("vqasr")


def measures_available() -> list[str]:
    """Return the measures whose packages are installed, and log the others.

    Raises:
        VqasrError: none is installed.
    """
    found = [measure for measure in MEASURES if _installed(measure)]
    if not found:
        raise VqasrError(f"listening measures need packages: {EXTRA}.")
    for module in sorted(set(MODULES.values()) - {MODULES[m] for m in found}):
        install = voices.INSTALL if module == voices.PACKAGE else EXTRA
        logger.warning("left out: %s is not installed: %s", module, install)
    return found


def _installed(measure: str) -> bool:
    return importlib.util.find_spec(MODULES[measure]) is not None


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
        None if there is no audio. "f0_error_cents" is the median difference of the fundamental
        frequency in frames that are voiced in both (1200 cents are an octave), "voicing_error" the
        share of the frames that are voiced in one alone, "speaker_similarity" the cosine of two
        embeddings (`voices.speaker_similarity`).
    """
    names = measures_available()
    scores: dict[str, list[float]] = {name: [] for name in names}
    for clip in recorded:
        decoded = decode(clip)
        if decoded is None:
            return dict.fromkeys((*names, "listening_clips"))
        if len(decoded) != len(clip):
            raise VqasrError(f"decoded audio has {len(decoded)} samples, the clip {len(clip)}.")
        found = _scores(clip, decoded)
        values = [value for name in names if (value := found[name]) is not None]
        if len(values) == len(names):
            for name, value in zip(names, values, strict=True):
                scores[name].append(value)
    clips = len(scores[names[0]])
    means = {n: round(float(np.mean(v)), 4) if v else None for n, v in scores.items()}
    return means | {"listening_clips": clips}


def _scores(clip: np.ndarray, decoded: np.ndarray) -> dict[str, float | None]:
    """Score one clip by the installed measures; None if it holds too little speech."""
    scores: dict[str, float | None] = dict.fromkeys(MEASURES)
    if not (clip.any() and decoded.any()):
        return scores
    if _installed("pesq_wb"):
        scores["pesq_wb"] = _pesq(clip, decoded)
    for name in filter(_installed, ("stoi", "estoi")):
        scores[name] = _stoi(clip, decoded, extended=name == "estoi")
    if _installed("f0_error_cents"):
        scores["f0_error_cents"], scores["voicing_error"] = pitch_errors(clip, decoded)
    if _installed("speaker_similarity"):
        scores["speaker_similarity"] = voices.speaker_similarity(clip, decoded)
    return scores


def _pesq(clip: np.ndarray, decoded: np.ndarray) -> float | None:
    import pesq

    try:
        return float(pesq.pesq(SAMPLING_RATE_HZ, clip, decoded, "wb"))
    except pesq.PesqError:  # no utterance was found, or the clip is too short
        return None


def _stoi(clip: np.ndarray, decoded: np.ndarray, extended: bool) -> float | None:
    import pystoi

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(pystoi.stoi(clip, decoded, SAMPLING_RATE_HZ, extended=extended))
        except (RuntimeWarning, ValueError):  # too few frames with speech
            return None


def pitch_errors(clip: np.ndarray, decoded: np.ndarray) -> tuple[float | None, float | None]:
    """Compare the fundamental frequencies of two (samples,) float32 clips of one length.

    Returns:
        median difference in cents over frames that are voiced in both, and share of the frames
        that are voiced in one alone; None if there are no such frames.
    """
    own, other = track_pitch(clip), track_pitch(decoded)
    if not len(own):
        return None, None
    voiced = (own > 0) & (other > 0)
    voicing = float(((own > 0) != (other > 0)).mean())
    if not voiced.any():
        return None, voicing
    cents = CENTS_PER_OCTAVE * np.abs(np.log2(own[voiced] / other[voiced]))
    return float(np.median(cents)), voicing
