"""Define the commands evaluate and train."""

from pathlib import Path
from typing import Annotated

from rich.table import Table
from typer import Argument, Option

from vqasr.cli import options
from vqasr.cli.inputs import expand_lists
from vqasr.cli.options import (
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
from vqasr.names import DEFAULT_SYSTEMS


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
        "vqasr evaluate --data test.parquet --systems vqasr:4:audio,opus:6000,codec2:1300 "
        "--listening 50 --asr base --out results/listening",
    )
)
def evaluate(
    data: Annotated[
        list[str],
        Option(
            help="Folder with metadata.csv (file_name,text), parquet or WebDataset tar file, "
            "folder of them, pattern, hub id, or @list.txt; repeat for more data sets."
        ),
    ],
    out_dir: Annotated[Path, Option("--out", help="Folder for the results.")],
    systems: Annotated[
        str | None,
        Option(
            help="Systems: pcm, vqasr:N, vqasr:all, vqasr:Rbps, vqasr:N:audio (decoded; "
            "vqasr:N+pitch:audio with --pitch), vqasr:continuous (unquantized), opus:6000, "
            "opuswb:6000, amrnb:4750, codec2:1300, mp3:16000, sbc:32000, g726:16000, g722, adpcm, "
            "mulaw, text, text:xz, kmeans:FILE, "
            "hf:kyutai/mimi@1100 (a codec of transformers), random:mimi@1100 (with random weights: "
            "bytes and time only). Systems that are not installed are left out. Default: "
            + DEFAULT_SYSTEMS.replace(",", ", ")
            + "; without pcm and decoded audio for recognisers that read codes only."
        ),
    ] = None,
    asr: options.Asr = "tiny.en",
    language: options.Language = None,
    task: options.SpeechTask = None,
    split: Annotated[str | None, Option(help="Split of a hub data set.")] = None,
    text_column: Annotated[str, Option(help="Column of the references.")] = "text",
    limit: Annotated[int | None, Option(help="Number of utterances.", min=1)] = None,
    batch_size: Annotated[int, Option(help="Clips decoded together.", min=1)] = 8,
    conditions: Annotated[
        str, Option(help="Conditions: clean, noise:DB, reverb:SECONDS, telephone.")
    ] = "clean",
    adapter: options.Adapter = None,
    codec: options.Codec = "vqasr-base",
    prior: options.Prior = None,
    chunk_s: options.ChunkS = None,
    chunk_loss: Annotated[
        str,
        Option(
            help="Percentages of chunks to lose, as in 0,1,5,10,20; 10x4 loses 10 in bursts of 4 "
            "on average (Gilbert's model); 10+1 as sent with --copies 1."
        ),
    ] = "",
    vocoder: options.Vocoder = None,
    listening: Annotated[
        int,
        Option(
            help="Number of utterances whose decoded audio gets PESQ, STOI, ESTOI, errors of the "
            "pitch and similarity of voices (extra listening).",
            min=0,
        ),
    ] = 0,
    seed: Annotated[int, Option(help="Seed of the lost chunks.")] = 0,
    threads: options.Threads = 0,
    engine: options.EngineName = options.EngineKind.local,
    processes: options.Processes = None,
    address: options.Address = None,
) -> None:
    """Measure WER against bitrate for several systems.

    Lists are separated by commas. The folder gets results.json and .csv, table.md, the hypotheses
    of each system, curve.png and .svg, and report.html; with several data sets or conditions, a
    folder for each and slices.md, which compares their error rates. The same command continues an
    interrupted run, and measures only systems with new settings. The tables hold the systems that
    are named. Several processes measure systems, data sets and conditions beside each other; their
    times are of no use then.
    """
    from vqasr.evaluation.evaluate import evaluate as measure_systems
    from vqasr.evaluation.run import summary_table

    set_threads(threads)
    with progress() as bar:
        slices = measure_systems(
            expand_lists(data), out_dir, systems=systems, asr=asr, language=language,
            task=task, split=split,
            text_column=text_column, limit=limit, batch_size=batch_size,
            conditions=_names(conditions), adapter=adapter, codec=codec, prior=load_prior(prior),
            chunk_frames=chunk_frames(chunk_s),
            chunk_losses=[part for part in chunk_loss.split(",") if part.strip()],
            vocoder=vocoder, listening=listening, seed=seed,
            engine=options.make_engine(engine, processes, address), bar=bar,
        )  # fmt: skip
    for label, rows in slices.items():
        heading, *cells = summary_table(rows)
        table = Table(*heading, title=label or None)
        for row in cells:
            table.add_row(*row)
        out.print(table)
    out.print(f"All numbers and report.html are in {out_dir}.", highlight=False)


@app.command(
    epilog=example(
        "vqasr train recipes/train_adapter/own.toml",
        "vqasr train recipes/train_codec/train.toml",
        "vqasr train recipes/train_vocoder/vocoder.toml",
    )
)
def train(config: Annotated[Path, Argument(help="TOML file; see those in recipes/.")]) -> None:
    """Train codec, adapters and code prior, or a vocoder; continue an interrupted run."""
    import logging

    from rich.logging import RichHandler

    from vqasr.training.config import VocoderTrainConfig, load_any_config

    set_threads(0)
    logging.basicConfig(
        level=logging.INFO, handlers=[RichHandler(console=err)], format="%(message)s"
    )
    settings = load_any_config(config)
    if isinstance(settings, VocoderTrainConfig):
        from vqasr.training.vocoder_trainer import VocoderTrainer

        VocoderTrainer(settings).run()
    else:
        from vqasr.training.trainer import Trainer

        Trainer(settings).run()


def _names(text: str) -> list[str]:
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        raise VqasrError("--conditions is empty: give some, as in clean,noise:10.")
    return list(dict.fromkeys(names))
