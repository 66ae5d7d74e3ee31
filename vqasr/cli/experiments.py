"""Commands that experiment: evaluate and train."""

from pathlib import Path
from typing import Annotated

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
    err,
    example,
    load_prior,
    out,
    progress,
    set_threads,
)
from vqasr.errors import VqasrError

SHOWN = (
    "system", "bytes", "nominal_bps", "order0_bps", "prior_bps", "coded_bps", "wer", "delta_wer",
    "delta_wer_ci95", "encode_rtf", "coding_rtf", "asr_rtf",
)  # fmt: skip


# As in vqasr.evaluation.evaluate, which takes a second to import.
DEFAULT_SYSTEMS = (
    "pcm, vqasr:1, vqasr:2, vqasr:4, vqasr:4:audio, codec2:1300, codec2:3200, amrnb:4750, "
    "opus:6000, opus:12000, mp3:16000, text"
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
            + DEFAULT_SYSTEMS
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
    from vqasr.evaluation.evaluate import evaluate as measure_systems
    from vqasr.evaluation.run import format_value

    set_threads(threads)
    with progress() as bar:
        slices = measure_systems(
            data, out_dir, systems=systems, asr=asr, split=split, text_column=text_column,
            limit=limit, batch_size=batch_size, conditions=_names(conditions), adapter=adapter,
            codec=codec, prior=load_prior(prior), chunk_frames=chunk_frames(chunk_s),
            chunk_losses=_percentages(chunk_loss), seed=seed, bar=bar,
        )  # fmt: skip
    for label, rows in slices.items():
        table = Table(*SHOWN, title=label or None)
        for row in rows:
            table.add_row(*(format_value(row[c]) for c in SHOWN))
        out.print(table)


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

    set_threads(0)
    logging.basicConfig(
        level=logging.INFO, handlers=[RichHandler(console=err)], format="%(message)s"
    )
    Trainer(load_train_config(config)).run()
