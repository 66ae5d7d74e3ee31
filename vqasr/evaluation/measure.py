"""Several systems on one data set: progress, results, pictures and report."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from rich.progress import Progress

from vqasr.evaluation.comparison import compare_rates
from vqasr.evaluation.curve import draw_curve
from vqasr.evaluation.report import SOUNDS, write_report
from vqasr.evaluation.run import ResultsFolder, Row, evaluate_system, text_row, with_statistics
from vqasr.evaluation.systems import System


@dataclass
class Speech:
    """What is to be heard.

    Attributes:
        clips: each (samples,) float32 at 16 kHz.
        texts: what was said.
        speakers: who spoke; None where nobody knows.
    """

    clips: list[np.ndarray]
    texts: list[str]
    speakers: list[Any] | None = None


def measure(
    systems: list[System],
    floors: list[str],
    skipped: dict[str, str],
    speech: Speech,
    batch_size: int,
    folder: ResultsFolder,
    about: dict[str, str],
    bar: Progress,
) -> list[Row]:
    """Measure what was not measured before, and write everything that there is to see.

    Args:
        systems: to compare.
        floors: names of text floors to show beside them.
        skipped: why other systems are missing.
        speech: the data set.
        batch_size: clips that are decoded together.
        folder: keeps every system's results as soon as it is done.
        about: what was measured; goes into results.json and the report's title.
        bar: shows how far each system is.

    Returns:
        The rows of all systems and floors.
    """
    rows: list[Row] = []
    hypotheses: list[list[str]] = []

    def add(row: Row, heard: list[str]) -> None:
        rows.append(row)
        hypotheses.append(heard)
        with_statistics(rows, speech.texts, hypotheses, speech.speakers)
        folder.write(about, rows, skipped)

    for system in systems:
        task = bar.add_task(system.name, total=len(speech.clips))
        done = folder.finished(system.name)
        if done is None:
            done = evaluate_system(
                system, speech.clips, speech.texts, batch_size, partial(bar.advance, task)
            )
            folder.add(done[0], speech.texts, done[1])
        bar.update(task, completed=len(speech.clips))
        add(*done)
    for name in floors:
        add(text_row(name, speech.clips, speech.texts), speech.texts)
    ratios = compare_rates(rows, speech.texts, hypotheses, speech.speakers)
    folder.write(about, rows, skipped, ratios)
    draw_curve(rows, folder.folder)
    shown = speech.clips[:SOUNDS]
    sounds = {
        system.name: [sound for clip in shown if (sound := system.sound(clip)) is not None]
        for system in systems
    }
    if "pcm" not in sounds:
        sounds["said"] = shown
    title = f"{about['asr']} on {about['data']} ({about['condition']})"
    page = folder.folder / "report.html"
    write_report(page, title, rows, ratios, speech.texts, hypotheses, sounds, skipped)
    return rows


def slices_table(slices: dict[str, list[Row]]) -> str:
    """Markdown: WER of each system under each condition, and how much the worst is of the best."""
    systems = list(dict.fromkeys(row["system"] for rows in slices.values() for row in rows))
    lines = ["| system | " + " | ".join(slices) + " | worst / best |"]
    lines.append("|---|" + "---|" * (len(slices) + 1))
    for system in systems:
        found = [next((r for r in rows if r["system"] == system), None) for rows in slices.values()]
        wers = [row["wer"] for row in found if row is not None and row["wer"] is not None]
        cells = ["-" if row is None or row["wer"] is None else _cell(row) for row in found]
        ratio = f"{max(wers) / min(wers):.1f}" if wers and min(wers) > 0 else "-"
        lines.append(f"| {system} | " + " | ".join(cells) + f" | {ratio} |")
    return "\n".join(lines) + "\n"


def _cell(row: Row) -> str:
    delta = row["delta_wer"]
    return f"{100 * row['wer']:.1f}" + ("" if delta is None else f" ({100 * delta:+.1f})")
