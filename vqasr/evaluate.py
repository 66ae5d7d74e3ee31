"""WER against bytes really spent, of several systems on one data set."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from vqasr.data import row_audio
from vqasr.errors import AudioError
from vqasr.files import replace_file
from vqasr.mel import SAMPLING_RATE_HZ
from vqasr.metrics import word_errors
from vqasr.systems import System

Row = dict[str, Any]
COLUMNS = (
    "system", "utterances", "words", "seconds", "bytes", "coded_bps", "nominal_bps",
    "wer", "delta_wer", "encode_rtf", "asr_rtf", "threads",
)  # fmt: skip


def read_utterances(
    data: Dataset, text_column: str, limit: int | None
) -> tuple[list[np.ndarray], list[str]]:
    """Clips and texts of the first `limit` rows.

    Raises:
        AudioError: no such column, no rows, or audio that cannot be decoded.
    """
    if text_column not in data.column_names:
        raise AudioError(
            f"no column {text_column!r}; there are {data.column_names}. Name it with --text-column."
        )
    if limit is not None:
        data = data.select(range(min(limit, len(data))))
    if len(data) == 0:
        raise AudioError("the data set holds no rows.")
    clips, texts = [], []
    for i, row in enumerate(data):
        try:
            clips.append(row_audio(row))
        except AudioError as error:
            raise AudioError(f"row {i}: {error}") from error
        texts.append(row[text_column] or "")
    return clips, texts


def evaluate_system(
    system: System,
    clips: list[np.ndarray],
    texts: list[str],
    batch_size: int,
    advance: Callable[[int], None],
) -> tuple[Row, list[str]]:
    """One row of the results and the hypotheses, in the order of the clips.

    Args:
        system: what to measure.
        clips: each (samples,) float32 at 16 kHz.
        texts: what was said.
        batch_size: clips that are decoded together.
        advance: called with the number of clips that were done.
    """
    # The longest clip decides how long a batch decodes: sorted by length, little is wasted.
    order = sorted(range(len(clips)), key=lambda i: len(clips[i]))
    hypotheses = [""] * len(clips)
    size = encode_s = asr_s = 0.0
    has_bytes = has_encoder = True
    system.hear([clips[order[0]]], batch_size)  # what happens once only is not timed
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        heard = system.hear([clips[i] for i in batch], batch_size)
        for i, text in zip(batch, heard.texts, strict=True):
            hypotheses[i] = text
        has_bytes, has_encoder = heard.stream_bytes is not None, heard.encode_s is not None
        size += sum(heard.stream_bytes or [])
        encode_s += heard.encode_s or 0.0
        asr_s += heard.asr_s
        advance(len(batch))
    seconds = sum(map(len, clips)) / SAMPLING_RATE_HZ
    errors, words = word_errors(texts, hypotheses)
    nominal_bits = [system.nominal_bits(len(clip)) for clip in clips]
    row: Row = {
        "system": system.name,
        "utterances": len(clips),
        "words": words,
        "seconds": round(seconds, 3),
        "bytes": int(size) if has_bytes else None,
        "coded_bps": round(8 * size / seconds, 2) if has_bytes else None,
        "nominal_bps": (
            None if None in nominal_bits else round(sum(b or 0 for b in nominal_bits) / seconds, 2)
        ),
        "wer": round(errors / words, 5) if words else None,
        "delta_wer": None,
        "encode_rtf": round(encode_s / seconds, 5) if has_encoder else None,
        "asr_rtf": round(asr_s / seconds, 5),
        "threads": torch.get_num_threads(),
    }
    return row, hypotheses


def with_delta_wer(rows: list[Row]) -> list[Row]:
    """Fill `delta_wer` against the `pcm` row; null where that was not run."""
    pcm = next((row["wer"] for row in rows if row["system"] == "pcm"), None)
    for row in rows:
        if pcm is not None and row["wer"] is not None:
            row["delta_wer"] = round(row["wer"] - pcm, 5)
    return rows


class ResultsFolder:
    """Results of a run, system by system, so that an interrupted run goes on.

    Args:
        folder: is made.
        settings: what the numbers depend on; finished systems of other settings are not reused.
    """

    def __init__(self, folder: str | os.PathLike[str], settings: dict[str, Any]):
        self.folder = Path(folder)
        self._settings = settings
        (self.folder / "systems").mkdir(parents=True, exist_ok=True)

    def finished(self, system: str) -> Row | None:
        """The row of a system that was measured before with the same settings."""
        try:
            saved = json.loads(self._path(system).read_text())
        except (OSError, json.JSONDecodeError):
            return None
        return saved["row"] if saved.get("settings") == self._settings else None

    def add(self, row: Row, texts: list[str], hypotheses: list[str]) -> None:
        """Keep a system's row and transcripts."""
        pairs = [{"text": t, "hypothesis": h} for t, h in zip(texts, hypotheses, strict=True)]
        saved = {"settings": self._settings, "row": row, "transcripts": pairs}
        replace_file(self._path(row["system"]), json.dumps(saved, indent=1).encode())

    def write(self, data: str, asr: str, rows: list[Row]) -> None:
        """Write results.json and table.md."""
        results = {"data": data, "asr": asr, "results": rows}
        replace_file(self.folder / "results.json", (json.dumps(results, indent=2) + "\n").encode())
        replace_file(self.folder / "table.md", markdown_table(rows).encode())

    def _path(self, system: str) -> Path:
        return self.folder / "systems" / f"{system.replace(':', '-')}.json"


def markdown_table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    lines += ["| " + " | ".join(format_value(row[c]) for c in COLUMNS) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def format_value(value: Any) -> str:
    """A cell of a table."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) and abs(value) < 100 else f"{value}"
