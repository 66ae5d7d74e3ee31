"""Segments of a transcript in the formats that people exchange them in."""

from typing import TYPE_CHECKING

import pysubs2

if TYPE_CHECKING:
    from vqasr.adapters.segments import Segment


def to_lines(segments: "list[Segment]") -> str:
    """Write a line each, its times in front."""
    clock = pysubs2.formats.webvtt.WebVTTFormat.ms_to_timestamp
    return "".join(
        f"[{clock(_ms(s.start_s))} --> {clock(_ms(s.end_s))}] {_line(s.text)}\n" for s in segments
    )


def to_srt(segments: "list[Segment]") -> str:
    """Write SubRip."""
    return _with_pysubs2(segments, "srt")


def to_vtt(segments: "list[Segment]") -> str:
    """Write WebVTT (W3C)."""
    return _with_pysubs2(segments, "vtt")


def to_tsv(segments: "list[Segment]") -> str:
    """Write tab-separated start and end in milliseconds and text, as Whisper does."""
    rows = [f"{_ms(s.start_s)}\t{_ms(s.end_s)}\t{_line(s.text)}" for s in segments]
    return "\n".join(["start\tend\ttext", *rows]) + "\n"


def _with_pysubs2(segments: "list[Segment]", form: str) -> str:
    subtitles = pysubs2.SSAFile()
    for segment in segments:
        text = _line(segment.text)
        text = _escaped(text) if form == "vtt" else text
        event = pysubs2.SSAEvent(_ms(segment.start_s), _ms(segment.end_s), text)
        subtitles.events.append(event)
    # Braces and backslashes are text here, and no styles of SubStation Alpha.
    return subtitles.to_string(form, keep_ssa_tags=True)


def _ms(seconds: float) -> int:
    return round(1000 * seconds)


def _line(text: str) -> str:
    """One line without tabs: both would end a cue or a cell."""
    return " ".join(text.split())


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
