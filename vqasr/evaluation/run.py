"""Evaluate a system on a data set: word error rate, bytes and time; keep the results."""

import csv
import io
import json
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch
from datasets import Dataset

from vqasr.data.speech import row_audio
from vqasr.errors import AudioError
from vqasr.evaluation.comparison import ratios_table
from vqasr.evaluation.error_rates import character_error_rate, score, word_errors
from vqasr.evaluation.intervals import statistics
from vqasr.evaluation.listening import MEASURES
from vqasr.evaluation.memory import peak_mib, reset_peak
from vqasr.evaluation.systems import KMEANS, System, SystemOutput
from vqasr.evaluation.text_floor import text_bytes
from vqasr.files import replace_file
from vqasr.fingerprint import bytes_fingerprint
from vqasr.grid import SAMPLING_RATE_HZ

logger = logging.getLogger("vqasr")
Row = dict[str, Any]
# Settings that matter only for vqasr's own codes. (Codec and adapter also tell for all systems in
# which clips there is speech at all. Another adapter does not make these be measured again.)
VQASR_SETTINGS = ("adapter", "codec", "prior", "chunk_frames", "seed", "vocoder")
SUMMARY = ("system", "bit/s", "WER, %", "points over pcm", "95 % interval of the points")
COLUMNS = (
    "system", "utterances", "words", "seconds", "bytes",
    "nominal_bps", "order0_bps", "prior_bps", "coded_bps", "prior_bps_speech", "prior_bps_pauses",
    "wer", "wer_ci95", "delta_wer", "delta_wer_ci95", "ci_over", "cer",
    "substitutions", "deletions", "insertions", "hallucinations",
    *MEASURES, "listening_clips",
    "encode_rtf", "coding_rtf", "asr_rtf", "threads", "peak_memory_mib",
)  # fmt: skip


def read_utterances(
    data: Dataset, text_column: str, limit: int | None
) -> tuple[list[np.ndarray], list[str]]:
    """Return clips and transcripts of the first `limit` rows.

    Raises:
        AudioError: there is no such column, there are no rows, or audio cannot be decoded.
    """
    check_utterances(data, text_column)
    if limit is not None:
        data = data.select(range(min(limit, len(data))))
    clips, texts = [], []
    for i, row in enumerate(data):
        try:
            clips.append(row_audio(row))
        except AudioError as error:
            raise AudioError(f"row {i}: {error}") from error
        texts.append("" if row[text_column] is None else str(row[text_column]))
    return clips, texts


def check_utterances(data: Dataset, text_column: str) -> None:
    """Raise AudioError if there is no such column, or no row."""
    if text_column not in data.column_names:
        advice = f"Choose one of {data.column_names} with --text-column."
        if set(data.column_names) <= {"id", "audio"}:  # a folder of audio files alone
            advice = "A folder of audio files needs a metadata.csv with the columns file_name,text."
        raise AudioError(f"no column {text_column!r}. {advice}")
    if len(data) == 0:
        raise AudioError("the data set has no rows.")


def evaluate_system(
    system: System,
    clips: list[np.ndarray],
    references: list[str],
    batch_size: int,
    advance: Callable[[int], None],
) -> tuple[Row, list[str]]:
    """Return a row of the results, and the hypotheses in the order of the clips.

    A system without a recogniser has no hypotheses and no word error rate.

    Args:
        system: to be measured.
        clips: each (samples,) float32 at 16 kHz.
        references: transcript of each clip.
        batch_size: clips that are decoded together.
        advance: called with the number of clips of each batch that is done.
    """
    # Batches of similar length waste little time on padding.
    order = sorted(range(len(clips)), key=lambda i: len(clips[i]))
    rates = system.rates()
    outputs: list[SystemOutput] = []
    reset_peak()
    system.run([clips[order[0]]], batch_size)  # warm up; not timed
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        output = system.run([clips[i] for i in batch], batch_size)
        outputs.append(output)
        if rates is not None and output.codes is not None and output.stream_bytes is not None:
            for i, codes, size in zip(batch, output.codes, output.stream_bytes, strict=True):
                rates.add(codes, len(clips[i]), size, system.speech(codes))
        advance(len(batch))
    texts = [text for output in outputs for text in output.texts]
    hypotheses = [text for _, text in sorted(zip(order, texts, strict=bool(texts)))]
    wer, words = _wer(references, hypotheses)
    sizes = [None if o.stream_bytes is None else sum(o.stream_bytes) for o in outputs]
    row = _new_row(system.name, clips, words, _total(sizes))
    if system.name == "pcm":
        row["nominal_bps"] = row["coded_bps"]
    if rates is not None:
        row |= rates.summary() | {"container_bps": rates.container_bps()}
    times = {
        "encode_rtf": _total([output.encode_s for output in outputs]),
        "coding_rtf": _total([output.coding_s for output in outputs]),
        "asr_rtf": _total([output.asr_s for output in outputs]) if hypotheses else None,
    }
    seconds = _seconds(clips)
    row |= {
        name: None if s is None or not seconds else round(s / seconds, 5)
        for name, s in times.items()
    }
    row["wer"] = wer
    row["threads"] = torch.get_num_threads()
    row["peak_memory_mib"] = peak_mib()
    return row, hypotheses


def _wer(references: list[str], hypotheses: list[str]) -> tuple[float | None, int]:
    """Return the WER, None without words or hypotheses, and the number of words."""
    errors, words = word_errors(references, hypotheses or references)
    return (round(errors / words, 5) if words and hypotheses else None), words


def with_references(row: Row, references: list[str], hypotheses: list[str]) -> Row:
    """Return a row that was measured before, with the errors against the present transcripts."""
    wer, words = _wer(references, hypotheses)
    return row | {"words": words, "wer": wer, "cer": None}


def text_row(name: str, clips: list[np.ndarray], references: list[str]) -> Row:
    """Return the row of "text" or "text:xz", which has no errors by definition."""
    words = word_errors(references, references)[1]
    row = _new_row(name, clips, words, text_bytes(name, references))
    return row | {"wer": 0.0 if words else None}


def _new_row(name: str, clips: list[np.ndarray], words: int, size: int | None) -> Row:
    seconds = _seconds(clips)
    return dict.fromkeys(COLUMNS) | {
        "system": name,
        "utterances": len(clips),
        "words": words,
        "seconds": round(seconds, 3),
        "bytes": size,
        "coded_bps": None if size is None or not seconds else round(8 * size / seconds, 2),
    }


def _seconds(clips: list[np.ndarray]) -> float:
    return sum(map(len, clips)) / SAMPLING_RATE_HZ


def _total(values: Sequence[Any]) -> Any:
    """Return the sum; None if any value is None."""
    return None if None in values else sum(values)


def with_statistics(
    rows: list[Row],
    references: list[str],
    hypotheses: list[list[str]],
    speakers: list[Any] | None = None,
) -> list[Row]:
    """Fill in the difference to `pcm` (null without that row), intervals and kinds of errors.

    Args:
        rows: results of the systems, changed in place.
        references: transcripts of the data set.
        hypotheses: of each row, in the order of the references; empty for systems without text.
        speakers: of each reference, see `statistics`.
    """
    scores = {
        row["system"]: score(references, texts)
        for row, texts in zip(rows, hypotheses, strict=True)
        if texts
    }
    pcm = next((row["wer"] for row in rows if row["system"] == "pcm"), None)
    for row, texts in zip(rows, hypotheses, strict=True):
        if pcm is not None and row["wer"] is not None:
            row["delta_wer"] = round(row["wer"] - pcm, 5)
        if row["system"] in scores:
            if row.get("cer") is None:
                rate = character_error_rate(references, texts)
                row["cer"] = None if rate is None else round(rate, 5)
            row |= statistics(scores[row["system"]], scores.get("pcm"), speakers)
    return rows


class ResultsFolder:
    """Keep the results of each system, so that an interrupted run can continue.

    Args:
        folder: is created.
        settings: that the results depend on; results with other settings are not reused.
    """

    def __init__(self, folder: str | os.PathLike[str], settings: dict[str, Any]):
        self.folder = Path(folder)
        self._settings = settings
        (self.folder / "systems").mkdir(parents=True, exist_ok=True)

    def finished(self, system: str) -> tuple[Row, list[str]] | None:
        """Return row and hypotheses of a system already measured with the same settings."""
        saved = _read(self._path(system))
        if saved is None:
            return None
        old, new = saved.get("settings", {}), self._relevant(system)
        changed = [name for name in (old | new) if old.get(name) != new.get(name)]
        if changed:
            logger.warning(
                "%s: the results of %s were measured with other settings (%s); it is measured "
                "again.", self.folder, system, ", ".join(changed),
            )  # fmt: skip
            return None
        return saved["row"], [pair["hypothesis"] for pair in saved["transcripts"]]

    def others(self, systems: list[str]) -> list[str]:
        """Return the systems that have results here beside these."""
        saved = map(_read, sorted(self.folder.glob("systems/*.json")))
        names = [kept["row"]["system"] for kept in saved if kept is not None]
        return [name for name in names if name not in systems]

    def add(self, row: Row, references: list[str], hypotheses: list[str]) -> None:
        """Keep a system's row and, if it has hypotheses, its transcripts."""
        kept = references if hypotheses else []
        pairs = [{"text": r, "hypothesis": h} for r, h in zip(kept, hypotheses, strict=True)]
        saved = {"settings": self._relevant(row["system"]), "row": row, "transcripts": pairs}
        replace_file(self._path(row["system"]), json.dumps(saved, indent=1).encode())

    def write(
        self,
        metadata: dict[str, str],
        rows: list[Row],
        skipped: dict[str, str],
        ratios: list[dict[str, Any]] | None = None,
    ) -> None:
        """Write results.json, results.csv and table.md.

        Args:
            metadata: data set, recogniser and condition.
            rows: results of the systems.
            skipped: {system: reason} of systems that were left out.
            ratios: result of `compare_rates`; None before all systems are measured.
        """
        results = metadata | {"results": rows, "rate_ratios": ratios or [], "skipped": skipped}
        replace_file(self.folder / "results.json", (json.dumps(results, indent=2) + "\n").encode())
        heading, *cells = ("| " + " | ".join(row) + " |" for row in summary_table(rows))
        table = "\n".join([heading, "|" + "---|" * (heading.count("|") - 1), *cells, ""])
        table += "\n" + ratios_table(ratios or [])
        table += "".join(f"\n{s}\n" for s in skipped.values())
        replace_file(self.folder / "table.md", table.encode())
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        replace_file(self.folder / "results.csv", text.getvalue().encode())

    def _relevant(self, system: str) -> Row:
        """Select the settings that a system depends on."""
        if system.startswith("vqasr:"):
            return self._settings
        relevant = {k: v for k, v in self._settings.items() if k not in VQASR_SETTINGS}
        if system.startswith(KMEANS):
            tokens = Path(system.removeprefix(KMEANS)).read_bytes()
            relevant["tokens"] = bytes_fingerprint({"": tokens}).hex()
        return relevant

    def _path(self, system: str) -> Path:
        return self.folder / "systems" / f"{quote(system, safe=':+@').replace(':', '-')}.json"


def _read(path: Path) -> dict[str, Any] | None:
    """Return what is saved of a system; None if that is missing or damaged."""
    try:
        saved: dict[str, Any] = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError):
        return None
    return saved


def summary_table(rows: list[Row]) -> list[list[str]]:
    """Return heading and rows of the main results: rate, WER, its difference, how it sounds."""
    measured = [name for name in MEASURES if any(row.get(name) is not None for row in rows)]
    table = [[*SUMMARY, *measured]]
    for row in rows:
        bps = "-" if row["coded_bps"] is None else f"{row['coded_bps']:.0f}"
        rates = map(_percent, (row["wer"], row["delta_wer"], row["delta_wer_ci95"]))
        scores = ("-" if (v := row.get(name)) is None else f"{v:.4g}" for name in measured)
        table.append([row["system"], bps, *rates, *scores])
    return table


def _percent(fraction: float | list[float] | None) -> str:
    if isinstance(fraction, list):
        return " to ".join(map(_percent, fraction))
    return "-" if fraction is None else f"{100 * fraction:.1f}"
