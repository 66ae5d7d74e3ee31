"""Format transcripts with timestamps, as text or subtitles."""

import html
from typing import TYPE_CHECKING

import pysubs2

if TYPE_CHECKING:
    from vqasr.adapters.segments import Segment


def format_segments(segments: "list[Segment]", form: str) -> str:
    """Format segments.

    Args:
        segments: of a transcript.
        form: "text" for a line per segment; "srt"; "vtt" (W3C); or "tsv" for start and end in
            milliseconds and text, as Whisper writes it.
    """
    # Line breaks and tabs would end a cue or a cell.
    cues = [
        (round(1000 * s.start_s), round(1000 * s.end_s), " ".join(s.text.split())) for s in segments
    ]
    if form == "text":
        clock = pysubs2.formats.webvtt.WebVTTFormat.ms_to_timestamp
        return "".join(f"[{clock(start)} --> {clock(end)}] {text}\n" for start, end, text in cues)
    if form == "tsv":
        rows = ["start\tend\ttext", *(f"{start}\t{end}\t{text}" for start, end, text in cues)]
        return "\n".join(rows) + "\n"
    subtitles = pysubs2.SSAFile()
    for start, end, text in cues:
        text = html.escape(text, quote=False) if form == "vtt" else text
        subtitles.events.append(pysubs2.SSAEvent(start, end, text))
    # Braces and backslashes are text, not SubStation Alpha tags.
    return subtitles.to_string(form, keep_ssa_tags=True)
