"""Measure word error rate against bytes, of several systems on data sets under conditions."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress

from vqasr.adapters.load_recogniser import load_recogniser
from vqasr.codec.modeling import VQCodecModel
from vqasr.codec.vocoder import GRIFFIN_LIM, Vocoder
from vqasr.compression.compress import load_codec
from vqasr.data.speech import data_fingerprint, load_speech, set_name, speakers_of
from vqasr.entropy.bundled import bundled_prior
from vqasr.entropy.prior import CodePrior
from vqasr.errors import VqasrError
from vqasr.evaluation.classical import UnavailableError
from vqasr.evaluation.comparison import compare_rates
from vqasr.evaluation.conditions import CLEAN, make_condition
from vqasr.evaluation.curve import draw_curve
from vqasr.evaluation.listening import listening_scores, measures_available
from vqasr.evaluation.report import AUDIO_CLIPS, REFERENCE, write_report
from vqasr.evaluation.run import (
    ResultsFolder,
    Row,
    evaluate_system,
    read_utterances,
    text_row,
    with_statistics,
)
from vqasr.evaluation.system_names import (
    expand_systems,
    make_system,
    supported_systems,
    with_greedy,
    with_losses,
)
from vqasr.evaluation.systems import System
from vqasr.evaluation.text_floor import TEXT_FLOORS
from vqasr.files import replace_file
from vqasr.fingerprint import weights_fingerprint

logger = logging.getLogger("vqasr")

DEFAULT_SYSTEMS = (
    "pcm,vqasr:1,vqasr:2,vqasr:4,vqasr:4:audio,codec2:1300,codec2:3200,amrnb:4750,opus:6000,"
    "opus:12000,mp3:16000,text"
)


@dataclass
class TestSet:
    """Recordings and their transcripts.

    Attributes:
        clips: each (samples,) float32 at 16 kHz.
        references: transcript of each clip.
        speakers: of each clip; None if unknown.
    """

    clips: list[np.ndarray]
    references: list[str]
    speakers: list[Any] | None = None


def evaluate(
    data: str | Sequence[str],
    out: str | os.PathLike[str],
    *,
    systems: str | None = None,
    asr: str = "tiny.en",
    split: str | None = None,
    text_column: str = "text",
    limit: int | None = None,
    batch_size: int = 8,
    conditions: Sequence[str] = (CLEAN,),
    adapter: str | None = None,
    codec: str | VQCodecModel = "vqasr-base",
    prior: CodePrior | None = None,
    chunk_frames: int | None = None,
    chunk_losses: Sequence[float] = (),
    vocoder: str = GRIFFIN_LIM,
    listening: int = 0,
    seed: int = 0,
    bar: Progress | None = None,
) -> dict[str, list[Row]]:
    """Measure systems, and write results, pictures and report.

    An interrupted run continues: results with the same settings are not measured again.

    Args:
        data: parquet files, folders or hub ids, one for each data set.
        out: folder for the results; with several data sets or conditions, it gets a folder for
            each, and slices.md.
        systems: names separated by commas, see `make_system`; None for `DEFAULT_SYSTEMS`.
        asr, adapter: recogniser, as `load_recogniser` takes them. With a language model
            ("ctc-small+lm"), each of vqasr's systems is measured without it too.
        split, text_column, limit: split of hub data sets, column of the transcripts, number of
            rows.
        batch_size: clips that are decoded together.
        conditions: see `make_condition`.
        codec, prior, chunk_frames: of vqasr's streams, see `CodesSystem`.
        chunk_losses: percentages of chunks to lose.
        vocoder: of vqasr's decoded audio, see `decode`.
        listening: number of utterances whose decoded audio is scored, see `listening_scores`.
        seed: of the lost chunks.
        bar: shows the progress of each system.

    Returns:
        {slice: rows}, with a row for each system.

    Raises:
        VqasrError: a system, condition or data set does not exist, or packages for `listening`.
    """
    if listening:
        measures_available()  # before any work
    sources = [data] if isinstance(data, str) else list(data)
    opened = [load_speech(source, split) for source in sources]  # all, before any work
    model = load_codec(codec)
    recogniser = load_recogniser(asr, adapter)
    expanded = expand_systems(systems or supported_systems(DEFAULT_SYSTEMS, recogniser), model)
    names = with_losses(with_greedy(expanded, recogniser), list(chunk_losses))
    changes = {name: make_condition(name) for name in conditions}
    coder = prior or bundled_prior(model.fingerprint())
    decoder = vocoder if vocoder == GRIFFIN_LIM else Vocoder.from_pretrained(vocoder)
    make = partial(
        make_system, codec=model, recogniser=recogniser, prior=coder, chunk_frames=chunk_frames,
        seed=seed, vocoder=decoder,
    )  # fmt: skip
    available, skipped = [], {}
    for name in names:
        try:
            if name not in TEXT_FLOORS:
                make(name)
                available.append(name)
        except UnavailableError as error:
            skipped[name] = str(error)
            logger.warning("left out: %s", error)
    floors = [name for name in names if name in TEXT_FLOORS]
    set_names = [set_name(source) for source in sources] if len(sources) > 1 else [""]
    if len(set(set_names)) < len(sources):
        raise VqasrError(
            f"data sets are called {set_names}; each needs its own folder. Rename a file, or "
            "evaluate them one at a time."
        )
    slices: dict[str, list[Row]] = {}
    for source, data_name, rows in zip(sources, set_names, opened, strict=True):
        clips, references = read_utterances(rows, text_column, limit)
        settings = {
            "split": split, "text_column": text_column, "utterances": len(clips),
            "rows": data_fingerprint(rows), "asr": recogniser.fingerprint().hex(),
            "adapter": recogniser.embedder_fingerprint().hex(), "codec": model.fingerprint().hex(),
            "batch_size": batch_size, "threads": torch.get_num_threads(),
            "chunk_frames": chunk_frames, "prior": coder.fingerprint.hex() if coder else None,
            "seed": seed,
        }  # fmt: skip
        if isinstance(decoder, Vocoder):
            settings["vocoder"] = weights_fingerprint(decoder.state_dict()).hex()
        for name, change in changes.items():
            parts = [data_name] if data_name else []
            parts += [name] if len(changes) > 1 else []
            folder = Path(out).joinpath(*(part.replace(":", "-") for part in parts))
            condition = {} if name == CLEAN else {"condition": name}
            slices[", ".join(parts)] = _measure(
                # New systems, so that lost chunks do not depend on earlier conditions.
                [make(system) for system in available], floors, skipped,
                TestSet([change(clip) for clip in clips], references, speakers_of(rows)),
                batch_size, ResultsFolder(folder, settings | condition),
                {"data": source, "asr": asr, "condition": name}, listening,
                bar or Progress(disable=True),
            )  # fmt: skip
    if len(slices) > 1:
        replace_file(Path(out) / "slices.md", _slices_table(slices).encode())
    return slices


def _measure(
    systems: list[System],
    floors: list[str],
    skipped: dict[str, str],
    test_set: TestSet,
    batch_size: int,
    folder: ResultsFolder,
    metadata: dict[str, str],
    listening: int,
    bar: Progress,
) -> list[Row]:
    """Evaluate the systems that have no results yet; write results, pictures and report."""
    clips, references = test_set.clips, test_set.references
    rows: list[Row] = []
    hypotheses: list[list[str]] = []

    def add(row: Row, texts: list[str]) -> None:
        rows.append(row)
        hypotheses.append(texts)
        with_statistics(rows, references, hypotheses, test_set.speakers)
        folder.write(metadata, rows, skipped)

    for system in systems:
        task = bar.add_task(system.name, total=len(clips))
        result = folder.finished(system.name)
        if result is None:
            advance = partial(bar.advance, task)
            result = evaluate_system(system, clips, references, batch_size, advance)
            folder.add(result[0], references, result[1])
        if listening and result[0].get("listening_of") != listening:
            scores = listening_scores(spread(clips, listening), system.decode)
            result[0].update(scores, listening_of=listening)
            folder.add(result[0], references, result[1])
        bar.update(task, completed=len(clips))
        add(*result)
    for name in floors:
        add(text_row(name, clips, references), references)
    ratios = compare_rates(rows, references, hypotheses, test_set.speakers)
    folder.write(metadata, rows, skipped, ratios)
    draw_curve(rows, folder.folder)
    examples = clips[:AUDIO_CLIPS]
    audio = {
        system.name: [decoded for c in examples if (decoded := system.decode(c)) is not None]
        for system in systems
    }
    if "pcm" not in audio:
        audio[REFERENCE] = examples
    title = f"{metadata['asr']} on {metadata['data']} ({metadata['condition']})"
    page = folder.folder / "report.html"
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
