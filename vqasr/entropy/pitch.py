"""Codes of the fundamental frequency to bytes and back, range-coded with fixed frequencies.

Each chunk stands alone. The frequencies were chosen on speech (dev): a voice goes on or ends, and
its pitch moves little from frame to frame.
"""

import numpy as np
import numpy.typing as npt

from vqasr.entropy.packing import IntCodes
from vqasr.entropy.range_coder import RangeDecoder, RangeEncoder
from vqasr.errors import InvalidCodesError
from vqasr.grid import PITCH_CODES, UNVOICED

_VOICED = PITCH_CODES - 1
_HIGHEST = 4096
# Cumulative frequencies of unvoiced and voiced, behind an unvoiced and behind a voiced frame.
_VOICING = (np.array([7, 8]), np.array([1, 11]))


def _tables(after_gap: bool) -> npt.NDArray[np.int64]:
    """Cumulative frequencies (74, 74) of all voiced codes behind each voiced code."""
    steps = [_HIGHEST]  # frequencies of the distances 0 to 73 from the last voiced code
    while len(steps) < _VOICED:
        falling = steps[-1] * 7 // 8 if after_gap else steps[-1] // 2
        steps.append(max(1, falling))
    place = np.arange(_VOICED)
    return np.cumsum(np.array(steps)[np.abs(place[:, None] - place)], axis=1)


_FIRST = np.arange(1, _VOICED + 1)
_AT_ONCE, _AFTER_GAP = _tables(False), _tables(True)


def most_pitch_bytes(frames: int) -> int:
    """Return a size that no chunk of this many frames exceeds."""
    return 3 * frames  # at most 4 bits for a voice's begin and 16 for a step


def check_pitch(pitch: IntCodes, frames: int) -> None:
    """Check codes of the fundamental frequency.

    Raises:
        InvalidCodesError: they are no integers of shape (frames,) from 0 to 74.
    """
    if not isinstance(pitch, np.ndarray):
        raise InvalidCodesError(f"pitch must be a numpy array, not {type(pitch).__name__}.")
    if pitch.shape != (frames,) or not np.issubdtype(pitch.dtype, np.integer):
        raise InvalidCodesError(
            f"pitch must be ({frames},) integers, one for each frame, not {pitch.shape} of "
            f"{pitch.dtype}."
        )
    if frames and not 0 <= pitch.min() <= pitch.max() < PITCH_CODES:
        raise InvalidCodesError(
            f"pitch holds codes from {pitch.min()} to {pitch.max()}; 0 (unvoiced) to "
            f"{PITCH_CODES - 1} are allowed."
        )


def encode_pitch(pitch: IntCodes) -> bytes:
    """Encode the (frames,) codes of a chunk."""
    encoder, last, before = RangeEncoder(), UNVOICED, UNVOICED
    for code in pitch.tolist():
        _encode(encoder, _VOICING[before != UNVOICED], int(code != UNVOICED))
        if code != UNVOICED:
            _encode(encoder, _ends(last, before), code - 1)
            last = code
        before = code
    return encoder.finish()


def decode_pitch(data: bytes, frames: int) -> npt.NDArray[np.int64] | None:
    """Decode (frames,) codes; None for bytes that `encode_pitch` does not write."""
    decoder, last, before = RangeDecoder(data), UNVOICED, UNVOICED
    pitch = np.zeros(frames, np.int64)
    for t in range(frames):
        symbol = decoder.decode(_VOICING[before != UNVOICED])
        if symbol > 0:
            symbol = decoder.decode(_ends(last, before))
            last = pitch[t] = symbol + 1
        if symbol < 0:
            return None
        before = int(pitch[t])
    return pitch if decoder.is_complete() else None


def _ends(last: int, before: int) -> npt.NDArray[np.int64]:
    """Cumulative frequencies of voiced codes; `last`: voiced code of the chunk, 0 for none."""
    if last == UNVOICED:
        return _FIRST
    return (_AFTER_GAP if before == UNVOICED else _AT_ONCE)[last - 1]


def _encode(encoder: RangeEncoder, ends: npt.NDArray[np.int64], symbol: int) -> None:
    start = int(ends[symbol - 1]) if symbol else 0
    encoder.encode(start, int(ends[symbol]) - start, int(ends[-1]))
