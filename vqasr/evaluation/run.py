"""WER against bytes really spent, of several systems on one data set."""

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from vqasr.data.speech import row_audio
from vqasr.errors import AudioError
from vqasr.evaluation.comparison import ratios_table
from vqasr.evaluation.error_rates import character_error_rate, score, word_errors
from vqasr.evaluation.intervals import statistics
from vqasr.evaluation.memory import forget_peak, peak_mib
from vqasr.evaluation.systems import KMEANS, System
from vqasr.evaluation.text_floor import text_bytes
from vqasr.files import replace_file
from vqasr.fingerprint import bytes_fingerprint
from vqasr.grid import SAMPLING_RATE_HZ

Row = dict[str, Any]
# Settings that only codes of our own codec depend on.
OF_CODES = ("adapter", "codec", "prior", "chunk_frames", "seed")
COLUMNS = (
    "system", "utterances", "words", "seconds", "bytes",
    "nominal_bps", "order0_bps", "prior_bps", "coded_bps", "prior_bps_speech", "prior_bps_pauses",
    "wer", "wer_ci95", "delta_wer", "delta_wer_ci95", "ci_over", "cer",
    "substitutions", "deletions", "insertions", "hallucinations",
    "encode_rtf", "coding_rtf", "asr_rtf", "threads", "peak_memory_mib",
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

    A system that recognises nothing has no hypotheses and no word error rate.

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
    asr_s = 0.0
    size: int | None = 0
    encode_s: float | None = 0.0
    coding_s: float | None = 0.0
    rates = system.rates()
    forget_peak()
    system.hear([clips[order[0]]], batch_size)  # what happens once only is not timed
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        heard = system.hear([clips[i] for i in batch], batch_size)
        if heard.texts:
            for i, text in zip(batch, heard.texts, strict=True):
                hypotheses[i] = text
        else:
            hypotheses = []
        size = _plus(size, None if heard.stream_bytes is None else sum(heard.stream_bytes))
        encode_s = _plus(encode_s, heard.encode_s)
        coding_s = _plus(coding_s, heard.coding_s)
        asr_s += heard.asr_s
        if rates is not None and heard.codes is not None and heard.stream_bytes is not None:
            for i, codes, length in zip(batch, heard.codes, heard.stream_bytes, strict=True):
                rates.add(codes, len(clips[i]), length, system.speech(codes))
        advance(len(batch))
    seconds = sum(map(len, clips)) / SAMPLING_RATE_HZ
    errors, words = word_errors(texts, hypotheses or texts)
    row: Row = dict.fromkeys(COLUMNS)
    if size is not None:
        row["coded_bps"] = round(8 * size / seconds, 2)
    if system.name == "pcm":
        row["nominal_bps"] = row["coded_bps"]
    if rates is not None and rates.samples:
        row |= rates.summary()
        row["container_bps"] = rates.container_bps()
    return row | {
        "system": system.name,
        "utterances": len(clips),
        "words": words,
        "seconds": round(seconds, 3),
        "bytes": size,
        "wer": round(errors / words, 5) if words and hypotheses else None,
        "encode_rtf": None if encode_s is None else round(encode_s / seconds, 5),
        "coding_rtf": None if coding_s is None else round(coding_s / seconds, 5),
        "asr_rtf": round(asr_s / seconds, 5) if hypotheses else None,
        "threads": torch.get_num_threads(),
        "peak_memory_mib": peak_mib(),
    }, hypotheses


def text_row(name: str, clips: list[np.ndarray], texts: list[str]) -> Row:
    """The row of "text" or "text:xz": no errors by definition, and hardly any bits."""
    size, seconds = text_bytes(name, texts), sum(map(len, clips)) / SAMPLING_RATE_HZ
    words = word_errors(texts, texts)[1]
    return dict.fromkeys(COLUMNS) | {
        "system": name,
        "utterances": len(clips),
        "words": words,
        "seconds": round(seconds, 3),
        "bytes": size,
        "coded_bps": round(8 * size / seconds, 2),
        "wer": 0.0 if words else None,
    }


def _rounded(rate: float | None) -> float | None:
    return None if rate is None else round(rate, 5)


def _plus(total: Any, more: Any) -> Any:
    """The sum; None where either is."""
    return None if total is None or more is None else total + more


def with_statistics(
    rows: list[Row],
    texts: list[str],
    hypotheses: list[list[str]],
    speakers: list[Any] | None = None,
) -> list[Row]:
    """Fill in what compares a row with `pcm` (null where that was not run), and intervals.

    Args:
        rows: of the systems that were measured so far.
        texts: what was said.
        hypotheses: of each row, in the order of the texts; none of a system that has none.
        speakers: of each text, see `statistics`.
    """
    scores = {
        row["system"]: score(texts, heard)
        for row, heard in zip(rows, hypotheses, strict=True)
        if heard
    }
    pcm = next((row["wer"] for row in rows if row["system"] == "pcm"), None)
    for row, heard in zip(rows, hypotheses, strict=True):
        if pcm is not None and row["wer"] is not None:
            row["delta_wer"] = round(row["wer"] - pcm, 5)
        if row["system"] in scores:
            if row.get("cer") is None:
                row["cer"] = _rounded(character_error_rate(texts, heard))
            row |= statistics(scores[row["system"]], scores.get("pcm"), speakers)
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

    def finished(self, system: str) -> tuple[Row, list[str]] | None:
        """Row and hypotheses of a system that was measured before with the same settings."""
        try:
            saved = json.loads(self._path(system).read_text())
        except (OSError, json.JSONDecodeError):
            return None
        if saved.get("settings", {}) != self._relevant(system):
            return None
        return saved["row"], [pair["hypothesis"] for pair in saved["transcripts"]]

    def add(self, row: Row, texts: list[str], hypotheses: list[str]) -> None:
        """Keep a system's row and transcripts, if it has any."""
        said = texts if hypotheses else []
        pairs = [{"text": t, "hypothesis": h} for t, h in zip(said, hypotheses, strict=True)]
        relevant = self._relevant(row["system"])
        saved = {"settings": relevant, "row": row, "transcripts": pairs}
        replace_file(self._path(row["system"]), json.dumps(saved, indent=1).encode())

    def write(
        self,
        about: dict[str, str],
        rows: list[Row],
        skipped: dict[str, str],
        ratios: list[dict[str, Any]] | None = None,
    ) -> None:
        """Write results.json, results.csv and table.md.

        Args:
            about: what was measured.
            rows: of the systems.
            skipped: why others were not measured.
            ratios: of `compare_rates`; None before all systems are measured.
        """
        results = about | {"results": rows, "rate_ratios": ratios or [], "skipped": skipped}
        replace_file(self.folder / "results.json", (json.dumps(results, indent=2) + "\n").encode())
        table = markdown_table(rows) + "\n" + ratios_table(ratios or [])
        table += "".join(f"\n{s}\n" for s in skipped.values())
        replace_file(self.folder / "table.md", table.encode())
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        replace_file(self.folder / "results.csv", text.getvalue().encode())

    def _relevant(self, system: str) -> Row:
        """What a system depends on: pcm and other codecs stay when ours is trained anew."""
        if system.startswith("vqasr:"):
            return self._settings
        relevant = {k: v for k, v in self._settings.items() if k not in OF_CODES}
        if system.startswith(KMEANS):
            tokens = Path(system.removeprefix(KMEANS)).read_bytes()
            relevant["tokens"] = bytes_fingerprint({"": tokens}).hex()
        return relevant

    def _path(self, system: str) -> Path:
        return self.folder / "systems" / f"{system.replace(':', '-').replace('/', '_')}.json"


def markdown_table(rows: list[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    lines += ["| " + " | ".join(format_value(row[c]) for c in COLUMNS) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def format_value(value: Any) -> str:
    """A cell of a table."""
    if value is None:
        return "-"
    if isinstance(value, list):
        return " to ".join(map(format_value, value))
    return f"{value:.4g}" if isinstance(value, float) and abs(value) < 100 else f"{value}"
