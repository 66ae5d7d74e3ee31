"""Codes of the fundamental frequency, 25 a second, to a frequency for each 10 ms."""

import torch
from torch import Tensor

from vqasr.grid import HOPS_PER_FRAME, LOWEST_PITCH_HZ, PITCH_STEPS, UNVOICED

# Places of the hops between the middles of two frames.
_BETWEEN = torch.tensor([0.125, 0.375, 0.625, 0.875])


class PitchHops:
    """Interpolate one clip's pitch as its codes come in; the same however they come in pieces.

    A voice glides between the middles of its frames. Behind a voice its last pitch stays, and an
    unvoiced frame before one has the pitch that follows.
    """

    def __init__(self) -> None:
        self._hops = torch.zeros(0)  # octaves over the lowest pitch, of the hops from `_first` on
        self._first = 0
        self._last, self._voiced = 0.0, False  # of the frame before

    def push(self, codes: Tensor) -> None:
        """Add the (frames,) int codes that come next."""
        new = []
        for number, code in enumerate(codes.tolist()):
            voiced = code != UNVOICED
            value = (code - 1) / PITCH_STEPS if voiced else self._last
            if number == 0 and self._first + len(self._hops) == 0:
                new.append(torch.full((HOPS_PER_FRAME // 2,), value))
            elif voiced and self._voiced:
                new.append(self._last + _BETWEEN * (value - self._last))
            else:
                new.append(torch.full((HOPS_PER_FRAME,), value))
            self._last, self._voiced = value, voiced
        self._hops = torch.cat([self._hops, *new])

    def take(self, start: int, stop: int) -> Tensor:
        """Return (stop - start,) Hz of hops; those outside have the value of the nearest.

        Hops before `start` are forgotten.
        """
        places = torch.arange(start, stop) - self._first
        taken = self._hops[places.clamp(0, len(self._hops) - 1)]
        known = max(0, min(start - self._first, len(self._hops) - 1))
        self._hops, self._first = self._hops[known:], self._first + known
        return LOWEST_PITCH_HZ * torch.exp2(taken)
