"""Segments of a transcript, and the formats that people exchange them in."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Segment:
    """What was said from start_s to end_s, in seconds of the recording."""

    start_s: float
    end_s: float
    text: str


def to_lines(segments: list[Segment]) -> str:
    """A line each, its times in front."""
    rows = [
        f"[{_clock(s.start_s, '.')} --> {_clock(s.end_s, '.')}] {_line(s.text)}\n" for s in segments
    ]
    return "".join(rows)


def to_srt(segments: list[Segment]) -> str:
    """SubRip."""
    blocks = [
        f"{i}\n{_clock(s.start_s, ',')} --> {_clock(s.end_s, ',')}\n{_line(s.text)}\n"
        for i, s in enumerate(segments, 1)
    ]
    return "\n".join(blocks)


def to_vtt(segments: list[Segment]) -> str:
    """WebVTT (W3C)."""
    blocks = [
        f"{_clock(s.start_s, '.')} --> {_clock(s.end_s, '.')}\n{_escaped(_line(s.text))}\n"
        for s in segments
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def to_tsv(segments: list[Segment]) -> str:
    """Tab-separated start and end in milliseconds and text, with a header, as Whisper writes it."""
    rows = [
        f"{round(1000 * s.start_s)}\t{round(1000 * s.end_s)}\t{_line(s.text)}" for s in segments
    ]
    return "\n".join(["start\tend\ttext", *rows]) + "\n"


def _line(text: str) -> str:
    """One line without tabs: both would end a cue or a cell."""
    return " ".join(text.split())


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _clock(seconds: float, point: str) -> str:
    """00:00:00,000"""
    ms = round(1000 * seconds)
    hours, ms = divmod(ms, 3_600_000)
    minutes, ms = divmod(ms, 60_000)
    return f"{hours:02}:{minutes:02}:{ms // 1000:02}{point}{ms % 1000:03}"
