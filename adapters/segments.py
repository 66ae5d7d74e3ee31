"""Describe a part of a transcript with its timestamps."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Segment:
    """Hold text spoken from start_s to end_s, in seconds of the recording."""

    start_s: float
    end_s: float
    text: str
