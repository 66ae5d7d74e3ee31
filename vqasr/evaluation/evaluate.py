"""Measure word error rate against bytes, of several systems on data sets under conditions."""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress

from vqasr.codec.modeling import VQCodecModel
from vqasr.codec.vocoder import Vocoder
from vqasr.compression.compress import load_codec
from vqasr.data.engines import LocalEngine
from vqasr.data.shard_work import Engine
from vqasr.data.speech import data_fingerprint, load_speech, set_name, speakers_of
from vqasr.entropy.prior import CodePrior
from vqasr.errors import VqasrError
from vqasr.evaluation.bench import Bench, BenchConfig, DataSets, Measurer
from vqasr.evaluation.classical import UnavailableError
from vqasr.evaluation.comparison import compare_rates
from vqasr.evaluation.conditions import CLEAN, make_condition
from vqasr.evaluation.curve import draw_curve
from vqasr.evaluation.listening import listening_scores, measures_available
from vqasr.evaluation.report import AUDIO_CLIPS, REFERENCE, write_report
from vqasr.evaluation.run import (
    ResultsFolder,
    Row,
    check_utterances,
    evaluate_system,
    read_utterances,
    text_row,
    with_references,
    with_statistics,
)
from vqasr.evaluation.system_names import (
    expand_systems,
    supported_systems,
    with_greedy,
    with_losses,
)
from vqasr.evaluation.systems import System
from vqasr.evaluation.text_floor import TEXT_FLOORS
from vqasr.files import replace_file
from vqasr.fingerprint import weights_fingerprint
from vqasr.names import DEFAULT_SYSTEMS

logger = logging.getLogger("vqasr")


def evaluate(
    data: str | Sequence[str],
    out: str | os.PathLike[str],
    *,
    systems: str | None = None,
    asr: str = "tiny.en",
    language: str | None = None,
    task: str | None = None,
    split: str | None = None,
    text_column: str = "text",
    limit: int | None = None,
    batch_size: int = 8,
    conditions: Sequence[str] = (CLEAN,),
    adapter: str | None = None,
    codec: str | VQCodecModel = "vqasr-base",
    prior: CodePrior | None = None,
    chunk_frames: int | None = None,
    chunk_losses: Sequence[float | str] = (),
    vocoder: str | None = None,
    listening: int = 0,
    seed: int = 0,
    engine: Engine = LocalEngine(),  # noqa: B008 - frozen
    bar: Progress | None = None,
) -> dict[str, list[Row]]:
    """Measure systems, and write results, pictures and report.

    An interrupted run continues: results with the same settings are not measured again.

    Args:
        data: parquet files, folders or hub ids, one for each data set.
        out: folder for the results; with several data sets or conditions, it gets a folder for
            each, and slices.md.
        systems: names separated by commas, see `make_system`; None for
            `vqasr.names.DEFAULT_SYSTEMS`.
        asr, adapter: recogniser, as `load_recogniser` takes them. With a language model
            ("ctc-small+lm"), each of vqasr's systems is measured without it too.
        language, task: of a multilingual recogniser, as `load_recogniser` takes them.
        split, text_column, limit: split of hub data sets, column of the transcripts, number of
            rows.
        batch_size: clips that are decoded together.
        conditions: see `make_condition`.
        codec, prior, chunk_frames: of vqasr's streams, see `CodesSystem`.
        chunk_losses: percentages of chunks to lose, or strings as "10x4" for bursts, see
            `ChunkLoss`.
        vocoder: of vqasr's decoded audio, see `decode`.
        listening: number of utterances whose decoded audio is scored, see `listening_scores`.
        seed: of the lost chunks.
        engine: shares the systems, data sets and conditions among workers of one thread each. Times
            are then those of workers that disturb each other.
        bar: shows the progress of each system.

    Returns:
        {slice: rows}, with a row for each system.

    Raises:
        VqasrError: a system, condition or data set does not exist, or packages for `listening`.
    """
    if listening:
        measures_available()  # before any work
    sources = [data] if isinstance(data, str) else list(data)
    set_names = [set_name(source) for source in sources] if len(sources) > 1 else [""]
    if len(set(set_names)) < len(sources):
        raise VqasrError(
            f"data sets are called {set_names}; each needs its own folder. Rename a file, or "
            "evaluate them one at a time."
        )
    if systems:
        expand_systems(systems, load_codec(codec))  # before the data and models are loaded
    opened = [load_speech(source, split) for source in sources]  # all, before any work
    for rows in opened:
        check_utterances(rows, text_column)
    models = BenchConfig(asr, adapter, codec, prior, chunk_frames, seed, vocoder, language, task)
    shared = not engine.in_process
    threads = 1 if shared else torch.get_num_threads()  # of whoever measures
    bench = Bench(models)
    model, recogniser = bench.codec, bench.recogniser
    expanded = expand_systems(systems or supported_systems(DEFAULT_SYSTEMS, recogniser), model)
    names = with_losses(with_greedy(expanded, recogniser), list(chunk_losses))
    changes = {name: make_condition(name) for name in conditions}
    available, skipped = [], {}
    for name in names:
        try:
            if name not in TEXT_FLOORS:
                bench.make(name)
                available.append(name)
        except UnavailableError as error:
            skipped[name] = str(error)
            logger.warning("left out: %s", error)
    floors = [name for name in names if name in TEXT_FLOORS]
    parts: list[_Slice] = []
    for number, (data_name, rows) in enumerate(zip(set_names, opened, strict=True)):
        settings = {
            "split": split, "text_column": text_column,
            "utterances": len(rows) if limit is None else min(limit, len(rows)),
            "rows": data_fingerprint(rows), "asr": recogniser.fingerprint().hex(),
            "adapter": recogniser.embedder_fingerprint().hex(), "codec": model.fingerprint().hex(),
            "batch_size": batch_size, "threads": threads,
            "chunk_frames": chunk_frames,
            "prior": bench.prior.fingerprint.hex() if bench.prior else None, "seed": seed,
        }  # fmt: skip
        chosen = {"language": language, "task": task}
        settings |= {name: value for name, value in chosen.items() if value is not None}
        if isinstance(bench.vocoder, Vocoder):
            settings["vocoder"] = weights_fingerprint(bench.vocoder.state_dict()).hex()
        for name in changes:
            labels = [data_name] if data_name else []
            labels += [name] if len(changes) > 1 else []
            place = Path(out).joinpath(*(label.replace(":", "-") for label in labels))
            condition = {} if name == CLEAN else {"condition": name}
            folder = ResultsFolder(place, settings | condition)
            parts.append(_Slice(", ".join(labels), number, name, folder))
    bar = bar or Progress(disable=True)
    if shared:
        own = DataSets(tuple(sources), split, text_column, limit, batch_size)
        _measure_in_workers(partial(Measurer, models, own), parts, available, engine, bar)
    slices: dict[str, list[Row]] = {}
    for number, group in groupby(parts, key=lambda part: part.source):
        clips, references = read_utterances(opened[number], text_column, limit)
        speakers = speakers_of(opened[number])
        for part in group:
            change = changes[part.condition]
            slices[part.label] = _measure(
                # New systems, so that lost chunks do not depend on earlier conditions.
                [bench.make(system) for system in available], floors, skipped,
                [change(clip) for clip in clips], references, speakers, batch_size, part.folder,
                {"data": sources[number], "asr": asr, "condition": part.condition}, listening, bar,
            )  # fmt: skip
    if len(slices) > 1:
        replace_file(Path(out) / "slices.md", _slices_table(slices).encode())
    return slices


@dataclass(frozen=True)
class _Slice:
    """A data set under a condition."""

    label: str
    source: int
    condition: str
    folder: ResultsFolder


def _measure_in_workers(
    start: Callable[[], Measurer],
    slices: list[_Slice],
    systems: list[str],
    engine: Engine,
    bar: Progress,
) -> None:
    """Measure what has no results yet, each system on each slice in one worker."""
    folders = {(part.source, part.condition): part.folder for part in slices}
    tasks = [
        {"source": source, "condition": condition, "system": system}
        for (source, condition), folder in folders.items()
        for system in systems
        if folder.finished(system) is None
    ]
    for done in bar.track(engine.run(start, tasks), len(tasks), description="systems"):
        task = done["task"]
        folder = folders[task["source"], task["condition"]]
        folder.add(done["row"], done["references"], done["texts"])


def _measure(
    systems: list[System],
    floors: list[str],
    skipped: dict[str, str],
    clips: list[np.ndarray],
    references: list[str],
    speakers: list[Any] | None,
    batch_size: int,
    folder: ResultsFolder,
    metadata: dict[str, str],
    listening: int,
    bar: Progress,
) -> list[Row]:
    """Evaluate the systems that have no results yet; write results, pictures and report."""
    rows: list[Row] = []
    hypotheses: list[list[str]] = []
    title = f"{metadata['asr']} on {metadata['data']} ({metadata['condition']})"
    page = folder.folder / "report.html"

    def add(row: Row, texts: list[str], new: bool = True) -> None:
        rows.append(row)
        hypotheses.append(texts)
        with_statistics(rows, references, hypotheses, speakers)
        folder.write(metadata, rows, skipped)
        if new:  # a finished page is not replaced by the part of it that was read again
            write_report(page, title, rows, [], references, hypotheses, {}, skipped)

    for system in systems:
        task = bar.add_task(system.name, total=len(clips))
        result = folder.finished(system.name)
        new = result is None
        if result is None:
            advance = partial(bar.advance, task)
            result = evaluate_system(system, clips, references, batch_size, advance)
        else:  # transcripts may have been corrected since
            result = with_references(result[0], references, result[1]), result[1]
        folder.add(result[0], references, result[1])
        if listening and result[0].get("listening_of") != listening:
            scores = listening_scores(spread(clips, listening), system.decode)
            result[0].update(scores, listening_of=listening)
            folder.add(result[0], references, result[1])
        bar.update(task, completed=len(clips))
        add(*result, new)
        if not bar.disable and not bar.console.is_terminal:  # no bar is drawn before the end
            wer = result[0]["wer"]
            percent = "no text" if wer is None else f"WER {100 * wer:.1f} %"
            bar.console.print(f"{system.name}: {percent}", highlight=False)
    for name in floors:
        add(text_row(name, clips, references), references, False)
    if others := folder.others([*(row["system"] for row in rows), *skipped]):
        logger.warning(
            "%s: measured before and not in these tables: %s. Name them with --systems too.",
            folder.folder, ", ".join(others),
        )  # fmt: skip
    ratios = compare_rates(rows, references, hypotheses, speakers)
    folder.write(metadata, rows, skipped, ratios)
    draw_curve(rows, folder.folder)
    examples = clips[:AUDIO_CLIPS]
    audio = {
        system.name: [decoded for c in examples if (decoded := system.decode(c)) is not None]
        for system in systems
    }
    if "pcm" not in audio:
        audio[REFERENCE] = examples
    write_report(page, title, rows, ratios, references, hypotheses, audio, skipped)
    return rows


def spread(clips: list[np.ndarray], count: int) -> list[np.ndarray]:
    """Return `count` clips from all parts of a data set."""
    places = np.linspace(0, len(clips) - 1, min(count, len(clips)))
    return [clips[i] for i in places.astype(int)]


def _slices_table(slices: dict[str, list[Row]]) -> str:
    """Format as Markdown: each system's WER in each slice, and its worst WER / best WER."""
    systems = list(dict.fromkeys(row["system"] for rows in slices.values() for row in rows))
    lines = ["| system | " + " | ".join(slices) + " | worst / best |"]
    lines.append("|---|" + "---|" * (len(slices) + 1))
    for system in systems:
        cells, wers = [], []
        for rows in slices.values():
            row = next((r for r in rows if r["system"] == system), None)
            if row is None or row["wer"] is None:
                cells.append("-")
                continue
            wers.append(row["wer"])
            delta = row["delta_wer"]
            difference = "" if delta is None else f" ({100 * delta:+.1f})"
            cells.append(f"{100 * row['wer']:.1f}{difference}")
        ratio = f"{max(wers) / min(wers):.1f}" if wers and min(wers) > 0 else "-"
        lines.append(f"| {system} | " + " | ".join(cells) + f" | {ratio} |")
    return "\n".join(lines) + "\n"
