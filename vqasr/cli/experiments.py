"""Commands that experiment: evaluate and train."""

from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.table import Table

from vqasr.cli.options import (
    Adapter,
    Asr,
    ChunkS,
    Codec,
    Prior,
    Threads,
    app,
    chunk_frames,
    complain,
    err,
    example,
    load_codec,
    load_prior,
    out,
)
from vqasr.errors import VqasrError
from vqasr.files import replace_file

SHOWN = (
    "system", "bytes", "nominal_bps", "order0_bps", "prior_bps", "coded_bps", "wer", "delta_wer",
    "delta_wer_ci95", "encode_rtf", "coding_rtf", "asr_rtf",
)  # fmt: skip


DEFAULT_SYSTEMS = (
    "pcm,vqasr:1,vqasr:2,vqasr:4,vqasr:4:audio,codec2:1300,codec2:3200,amrnb:4750,opus:6000,"
    "opus:12000,mp3:16000,text"
)


@app.command(
    epilog=example(
        "vqasr evaluate --data test.parquet --limit 40 --out results/first",
        "vqasr evaluate --data test.parquet --systems pcm,vqasr:1,vqasr:4 --out results/test",
        "vqasr evaluate --data user/corpus --split test --limit 100 "
        "--systems pcm,vqasr:all,vqasr:continuous --out results/corpus",
        "vqasr evaluate --data test.parquet --systems vqasr:4 --chunk-s 1 "
        "--chunk-loss 0,1,5,10,20 --out results/loss",
        "vqasr evaluate --data test.parquet --systems pcm,opus:6000,codec2:1300,vqasr:4 "
        "--out results/classical",
        "vqasr evaluate --data test.parquet --systems pcm,vqasr:4 "
        "--conditions clean,noise:10,reverb:0.6,telephone --out results/robustness",
    )
)
def evaluate(
    data: Annotated[
        list[str],
        typer.Option(
            help="Parquet file, folder of them, or hub id; several times to have data sets side "
            "by side."
        ),
    ],
    out_dir: Annotated[Path, typer.Option("--out", help="Folder for results, pictures, report.")],
    systems: Annotated[
        str | None,
        typer.Option(
            help="By commas: pcm, vqasr:N, vqasr:all, vqasr:Rbps, vqasr:N:audio (decoded), "
            "vqasr:continuous (no quantizer), opus:6000, opuswb:6000, amrnb:4750, codec2:1300, "
            "mp3:16000, sbc:32000, g726:16000, g722, adpcm, mulaw, text, text:xz, kmeans:FILE, "
            "hf:kyutai/mimi@1100 (a codec of transformers), random:mimi@1100 (the same with random "
            "weights: bytes and time, no text). What is not installed is left out. By default "
            + DEFAULT_SYSTEMS.replace(",", ", ")
            + " (of these, for a recogniser that reads codes only, the codes)."
        ),
    ] = None,
    asr: Asr = "tiny.en",
    split: Annotated[str | None, typer.Option(help="Split of a hub data set.")] = None,
    text_column: Annotated[str, typer.Option(help="Column of the transcripts.")] = "text",
    limit: Annotated[int | None, typer.Option(help="Only the first N utterances.", min=1)] = None,
    batch_size: Annotated[int, typer.Option(help="Clips decoded together.", min=1)] = 8,
    conditions: Annotated[
        str, typer.Option(help="By commas: clean, noise:DB, reverb:SECONDS, telephone.")
    ] = "clean",
    adapter: Adapter = None,
    codec: Codec = "vqasr-base",
    prior: Prior = None,
    chunk_s: ChunkS = None,
    chunk_loss: Annotated[
        str, typer.Option(help="Per cent of the chunks to lose, by commas: 0,1,5,10,20.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Of the chunks that are lost.")] = 0,
    threads: Threads = 0,
) -> None:
    """Measure WER against bytes really spent.

    Writes results.json and .csv, table.md, each system's transcripts, curve.png and .svg, and
    report.html to look at and listen to; of several data sets or conditions, a folder for each and
    slices.md, with how many times the worst word error rate is the best.
    An interrupted run goes on: systems that were measured with the same settings are not measured
    again.
    """
    from vqasr.adapters.load_reader import load_reader
    from vqasr.data.speech import data_fingerprint, load_speech, set_name, speakers_of
    from vqasr.evaluation.classical import UnavailableError
    from vqasr.evaluation.conditions import CLEAN, make_condition
    from vqasr.evaluation.measure import Speech, measure, slices_table
    from vqasr.evaluation.run import ResultsFolder, format_value, read_utterances
    from vqasr.evaluation.system_names import expand_systems, make_system, readable, with_losses
    from vqasr.evaluation.text_floor import TEXT_FLOORS
    from vqasr.stream.priors import bundled_prior

    model = load_codec(codec, threads)
    recogniser = load_reader(asr, adapter)
    expanded = expand_systems(systems or readable(DEFAULT_SYSTEMS, recogniser), model)
    names = with_losses(expanded, _percentages(chunk_loss))
    heard_as = {name: make_condition(name) for name in _names(conditions)}
    frames = chunk_frames(chunk_s, model.config.frame_rate)
    coder = load_prior(prior) or bundled_prior(model.fingerprint())
    make = partial(
        make_system, codec=model, recogniser=recogniser, prior=coder, chunk_frames=frames, seed=seed
    )
    compared, skipped = [], {}
    for name in names:
        try:
            if name not in TEXT_FLOORS:
                compared.append(make(name))
        except UnavailableError as error:
            skipped[name] = str(error)
            complain(error)
    floors = [name for name in names if name in TEXT_FLOORS]
    several = [set_name(source) for source in data] if len(data) > 1 else [""]
    if len(set(several)) < len(data):
        raise VqasrError(f"--data: {several} are the folders of results; two have the same name.")
    slices = {}
    opened = [load_speech(source, split) for source in data]  # all, before any work
    for source, data_name, rows_data in zip(data, several, opened, strict=True):
        clips, texts = read_utterances(rows_data, text_column, limit)
        speakers = speakers_of(rows_data)
        settings = {
            "split": split, "text_column": text_column, "utterances": len(clips),
            "rows": data_fingerprint(rows_data), "asr": recogniser.fingerprint().hex(),
            "adapter": recogniser.embedder_fingerprint().hex(), "codec": model.fingerprint().hex(),
            "batch_size": batch_size, "threads": torch.get_num_threads(), "chunk_frames": frames,
            "prior": coder.fingerprint.hex() if coder else None,
            "seed": seed,
        }  # fmt: skip
        for name, condition in heard_as.items():
            parts = [data_name] if data_name else []
            parts += [name] if len(heard_as) > 1 else []
            folder = out_dir.joinpath(*(part.replace(":", "-") for part in parts))
            speech = Speech([condition(clip) for clip in clips], texts, speakers)
            label = ", ".join(parts)
            slices[label] = measure(
                # Made anew: what one condition lost on the way must not depend on those before it.
                [make(system.name) for system in compared], floors, skipped, speech, batch_size,
                ResultsFolder(folder, settings | ({} if name == CLEAN else {"condition": name})),
                {"data": source, "asr": asr, "condition": name},
            )  # fmt: skip
            table = Table(*SHOWN, title=label or None)
            for row in slices[label]:
                table.add_row(*(format_value(row[c]) for c in SHOWN))
            out.print(table)
    if len(slices) > 1:
        replace_file(out_dir / "slices.md", slices_table(slices).encode())


def _names(text: str) -> list[str]:
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        raise VqasrError("no condition was named; for instance clean,noise:10.")
    return list(dict.fromkeys(names))


def _percentages(text: str) -> list[float]:
    try:
        return [float(part.strip().rstrip("%")) for part in text.split(",") if part.strip()]
    except ValueError:
        raise VqasrError(f"--chunk-loss {text}: percentages are needed, as in 0,1,5.") from None


@app.command(epilog=example("vqasr train recipes/train_codec/train.toml"))
def train(
    config: Annotated[Path, typer.Argument(help="TOML file; see recipes/train_codec.")],
) -> None:
    """Train codec, adapter and code prior; goes on where an interrupted run was saved."""
    import logging

    from rich.logging import RichHandler

    from vqasr.training.config import load_train_config
    from vqasr.training.trainer import Trainer

    logging.basicConfig(
        level=logging.INFO, handlers=[RichHandler(console=err)], format="%(message)s"
    )
    Trainer(load_train_config(config)).run()
