"""Write report.html: one self-contained page with the results of an evaluation.

It shows the curve, the table, transcripts with marked errors, and audio. The results are embedded
as JSON; page/page.js draws them.
"""

import base64
import html
import io
import json
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import soundfile

from vqasr.evaluation.comparison import family
from vqasr.evaluation.error_rates import normalise
from vqasr.files import replace_file
from vqasr.grid import SAMPLING_RATE_HZ

# Number of utterances with transcripts, and of those with audio.
UTTERANCES = 12
AUDIO_CLIPS = 3
REFERENCE = "reference"  # key of the uncompressed recordings
PAGE = Path(__file__).parent / "page"
MARKS = {"substitute": "sub", "delete": "del", "insert": "ins"}


def write_report(
    path: Path,
    title: str,
    rows: list[dict[str, Any]],
    ratios: list[dict[str, Any]],
    references: list[str],
    hypotheses: list[list[str]],
    audio: dict[str, list[np.ndarray]],
    skipped: dict[str, str] | None = None,
) -> None:
    """Write the page.

    Args:
        path: report.html.
        title: heading of the page.
        rows: results of the systems.
        ratios: result of `compare_rates`.
        references: transcripts of the data set.
        hypotheses: of each row, in the order of the references.
        audio: by system, decoded audio of the first utterances, (samples,) float32 at 16 kHz;
            under `REFERENCE`, the recordings.
        skipped: {system: reason} of systems that were left out.
    """
    data = {
        "title": title,
        "rows": rows,
        "families": {row["system"]: family(row["system"]) for row in rows},
        "ratios": ratios,
        "skipped": skipped or {},
        "texts": [
            {
                "reference": normalise(reference),
                "hypotheses": {
                    row["system"]: marked(reference, texts[i])
                    for row, texts in zip(rows, hypotheses, strict=True)
                    if texts
                },
            }
            for i, reference in enumerate(references[:UTTERANCES])
        ],
        "sounds": {name: list(map(_data_url, clips)) for name, clips in audio.items()},
    }
    parts = {
        "TITLE": html.escape(title),
        "STYLE": (PAGE / "style.css").read_text(),
        # "</" would end the script element that holds the data.
        "DATA": json.dumps(data).replace("</", "<\\/"),
        "SCRIPT": (PAGE / "page.js").read_text(),
    }
    page = (PAGE / "page.html").read_text()
    for name, part in parts.items():
        page = page.replace(f"<!--{name}-->", part, 1)
    replace_file(path, page.encode())


def marked(reference: str, hypothesis: str) -> str:
    """Return the hypothesis as HTML, with its errors in <span class="sub|del|ins">."""
    reference, hypothesis = normalise(reference), normalise(hypothesis)
    if not reference:
        return html.escape(hypothesis)
    aligned = jiwer.process_words(reference, hypothesis)
    pieces = []
    for chunk in aligned.alignments[0]:
        expected = " ".join(aligned.references[0][chunk.ref_start_idx : chunk.ref_end_idx])
        actual = " ".join(aligned.hypotheses[0][chunk.hyp_start_idx : chunk.hyp_end_idx])
        text = html.escape(expected if chunk.type == "delete" else actual)
        if chunk.type in MARKS:
            hint = f' title="{html.escape(expected)}"' if chunk.type == "substitute" else ""
            text = f'<span class="{MARKS[chunk.type]}"{hint}>{text}</span>'
        pieces.append(text)
    return " ".join(pieces)


def _data_url(samples: np.ndarray) -> str:
    file = io.BytesIO()
    clipped = np.clip(samples, -1.0, 1.0)
    soundfile.write(file, clipped, SAMPLING_RATE_HZ, format="FLAC", subtype="PCM_16")
    return "data:audio/flac;base64," + base64.b64encode(file.getvalue()).decode()
