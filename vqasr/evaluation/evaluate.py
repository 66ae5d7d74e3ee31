"""Word error rate against bytes, of several systems on data sets under conditions."""

import logging
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from rich.progress import Progress

from vqasr.adapters.load_recogniser import load_recogniser
from vqasr.codec.modeling import VQCodecModel
from vqasr.compression.compress import load_codec
from vqasr.data.speech import data_fingerprint, load_speech, set_name, speakers_of
from vqasr.entropy.bundled import bundled_prior
from vqasr.entropy.prior import CodePrior
from vqasr.errors import VqasrError
from vqasr.evaluation.classical import UnavailableError
from vqasr.evaluation.conditions import CLEAN, make_condition
from vqasr.evaluation.measure import Speech, measure, slices_table
from vqasr.evaluation.run import ResultsFolder, Row, read_utterances
from vqasr.evaluation.system_names import expand_systems, make_system, readable, with_losses
from vqasr.evaluation.text_floor import TEXT_FLOORS
from vqasr.files import replace_file

logger = logging.getLogger("vqasr")

DEFAULT_SYSTEMS = (
    "pcm,vqasr:1,vqasr:2,vqasr:4,vqasr:4:audio,codec2:1300,codec2:3200,amrnb:4750,opus:6000,"
    "opus:12000,mp3:16000,text"
)


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
    seed: int = 0,
    bar: Progress | None = None,
) -> dict[str, list[Row]]:
    """Measure systems, and write results, pictures and report.

    An interrupted run goes on: what was measured with the same settings is not measured again.

    Args:
        data: parquet files, folders or hub ids, one for each data set.
        out: folder for the results; of several data sets or conditions, a folder for each and
            slices.md.
        systems: names by commas, see `make_system`; None for a list with classical codecs.
        asr, adapter: recogniser, as `load_recogniser` takes them.
        split, text_column, limit: which rows, which transcripts, how many.
        batch_size: clips that are decoded together.
        conditions: see `make_condition`.
        codec, prior, chunk_frames: of vqasr's streams.
        chunk_losses: percentages of the chunks that get lost.
        seed: of the chunks that get lost.
        bar: shows how far each system is.

    Returns:
        {slice: rows}, a row for each system.

    Raises:
        VqasrError: a name or a data set that does not exist.
    """
    sources = [data] if isinstance(data, str) else list(data)
    model = load_codec(codec)
    recogniser = load_recogniser(asr, adapter)
    expanded = expand_systems(systems or readable(DEFAULT_SYSTEMS, recogniser), model)
    names = with_losses(expanded, list(chunk_losses))
    changes = {name: make_condition(name) for name in conditions}
    coder = prior or bundled_prior(model.fingerprint())
    make = partial(
        make_system, codec=model, recogniser=recogniser, prior=coder, chunk_frames=chunk_frames,
        seed=seed,
    )  # fmt: skip
    compared, skipped = [], {}
    for name in names:
        try:
            if name not in TEXT_FLOORS:
                compared.append(make(name))
        except UnavailableError as error:
            skipped[name] = str(error)
            logger.warning("left out: %s", error)
    floors = [name for name in names if name in TEXT_FLOORS]
    several = [set_name(source) for source in sources] if len(sources) > 1 else [""]
    if len(set(several)) < len(sources):
        raise VqasrError(f"data sets {several} give the folders their names; two have the same.")
    slices: dict[str, list[Row]] = {}
    opened = [load_speech(source, split) for source in sources]  # all, before any work
    for source, data_name, rows in zip(sources, several, opened, strict=True):
        clips, texts = read_utterances(rows, text_column, limit)
        settings = {
            "split": split, "text_column": text_column, "utterances": len(clips),
            "rows": data_fingerprint(rows), "asr": recogniser.fingerprint().hex(),
            "adapter": recogniser.embedder_fingerprint().hex(), "codec": model.fingerprint().hex(),
            "batch_size": batch_size, "threads": torch.get_num_threads(),
            "chunk_frames": chunk_frames, "prior": coder.fingerprint.hex() if coder else None,
            "seed": seed,
        }  # fmt: skip
        for name, change in changes.items():
            parts = [data_name] if data_name else []
            parts += [name] if len(changes) > 1 else []
            folder = Path(out).joinpath(*(part.replace(":", "-") for part in parts))
            speech = Speech([change(clip) for clip in clips], texts, speakers_of(rows))
            condition = {} if name == CLEAN else {"condition": name}
            slices[", ".join(parts)] = measure(
                # Made anew: what one condition lost on the way must not depend on those before it.
                [make(system.name) for system in compared], floors, skipped, speech, batch_size,
                ResultsFolder(folder, settings | condition),
                {"data": source, "asr": asr, "condition": name}, bar or Progress(disable=True),
            )  # fmt: skip
    if len(slices) > 1:
        replace_file(Path(out) / "slices.md", slices_table(slices).encode())
    return slices
