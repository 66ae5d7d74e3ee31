"""A part of a transcript with its time."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Segment:
    """Text spoken from start_s to end_s, in seconds of the recording."""

    start_s: float
    end_s: float
    text: str
