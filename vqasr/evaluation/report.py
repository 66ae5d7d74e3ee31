"""report.html: one page that holds everything an evaluation found, and needs nothing else.

Curve, table, transcripts with their errors marked, and sounds to listen to. Numbers and texts
travel as JSON inside the page; assets/report/report.js draws them.
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

from vqasr.assets import ASSETS
from vqasr.evaluation.error_rates import normalise
from vqasr.grid import SAMPLING_RATE_HZ

# So many utterances are shown, and of the first few of them, sounds.
SHOWN = 12
SOUNDS = 3
PAGE = ASSETS / "report"
MARKS = {"substitute": "sub", "delete": "del", "insert": "ins"}


def write_report(
    path: Path,
    title: str,
    rows: list[dict[str, Any]],
    ratios: list[dict[str, Any]],
    texts: list[str],
    hypotheses: list[list[str]],
    sounds: dict[str, list[np.ndarray]],
    skipped: dict[str, str] | None = None,
) -> None:
    """Write the page.

    Args:
        path: report.html.
        title: what was measured.
        rows: of the systems, as `vqasr evaluate` writes them.
        ratios: of `compare_rates`.
        texts: what was said.
        hypotheses: of each row, in the order of the texts.
        sounds: by system, what is heard of the first utterances; (samples,) float32 at 16 kHz. By
            "said", the recordings.
        skipped: why other systems are missing.
    """
    data = {
        "title": title,
        "rows": rows,
        "ratios": ratios,
        "skipped": skipped or {},
        "texts": [
            {
                "said": normalise(said),
                "heard": {
                    row["system"]: marked(said, heard[i])
                    for row, heard in zip(rows, hypotheses, strict=True)
                    if heard
                },
            }
            for i, said in enumerate(texts[:SHOWN])
        ],
        "sounds": {name: [_data_url(s) for s in clips[:SOUNDS]] for name, clips in sounds.items()},
    }
    page = (PAGE / "page.html").read_text()
    # "</" would end the script that holds the data.
    inside = json.dumps(data).replace("</", "<\\/")
    parts = {
        "TITLE": html.escape(title),
        "STYLE": (PAGE / "style.css").read_text(),
        "DATA": inside,
        "SCRIPT": (PAGE / "report.js").read_text(),
    }
    for name, part in parts.items():
        page = page.replace(f"<!--{name}-->", part, 1)
    path.write_text(page)


def marked(said: str, heard: str) -> str:
    """The words of a hypothesis as HTML, with what is wrong in <span class="sub|del|ins">."""
    reference, hypothesis = normalise(said), normalise(heard)
    if not reference:
        return html.escape(hypothesis)
    aligned = jiwer.process_words(reference, hypothesis)
    pieces = []
    for chunk in aligned.alignments[0]:
        was = " ".join(aligned.references[0][chunk.ref_start_idx : chunk.ref_end_idx])
        now = " ".join(aligned.hypotheses[0][chunk.hyp_start_idx : chunk.hyp_end_idx])
        if chunk.type not in MARKS:
            pieces.append(html.escape(now))
            continue
        shown = was if chunk.type == "delete" else now
        hint = f' title="{html.escape(was)}"' if chunk.type == "substitute" else ""
        pieces.append(f'<span class="{MARKS[chunk.type]}"{hint}>{html.escape(shown)}</span>')
    return " ".join(pieces)


def _data_url(samples: np.ndarray) -> str:
    file = io.BytesIO()
    clipped = np.clip(samples, -1.0, 1.0)
    soundfile.write(file, clipped, SAMPLING_RATE_HZ, format="FLAC", subtype="PCM_16")
    return "data:audio/flac;base64," + base64.b64encode(file.getvalue()).decode()
