"""Define the command tokenize."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from vqasr.cli import options
from vqasr.cli.inputs import expand_lists
from vqasr.cli.options import app, example, out, progress
from vqasr.errors import VqasrError


@app.command(
    epilog=example(
        "vqasr tokenize train-00000.parquet train-00001.parquet -o codes/train -n 4",
        "vqasr tokenize user/corpus --split train -o codes/corpus --processes 8",
        "vqasr tokenize train.parquet -o codes/faster --speeds 0.9,1.0,1.1 --column vqs",
    )
)
def tokenize(
    data: Annotated[
        list[str],
        Argument(
            help="Parquet or WebDataset tar files, folders of them, folders with metadata.csv, "
            "patterns, hub ids, or @list.txt."
        ),
    ],
    output: Annotated[Path, Option("-o", "--output", help="Folder for the codes.")],
    split: Annotated[str | None, Option(help="Split of a hub data set.")] = None,
    codec: options.Codec = "vqasr-base",
    num_quantizers: options.NumQuantizers = None,
    bps: options.Bps = None,
    column: Annotated[
        str, Option(help="codes: lists of integers; vqs: streams, with their real bitrate.")
    ] = "codes",
    speeds: Annotated[str, Option(help="Encode every recording at each of these speeds.")] = "1.0",
    shard_rows: Annotated[int, Option(help="Recordings per file.", min=1)] = 500,
    processes: Annotated[int, Option(help="Number of worker processes.", min=1)] = 1,
) -> None:
    """Encode a data set to codes, for training without audio and codec.

    All other columns are kept. The same command continues an interrupted run. Recordings that
    cannot be read are reported and left out.
    """
    from vqasr.data.tokenized import TokenizeConfig, tokenize

    try:
        numbers = tuple(float(part) for part in speeds.split(","))
    except ValueError:
        raise VqasrError(f"--speeds {speeds}: use numbers, as in 0.9,1.0,1.1.") from None
    config = TokenizeConfig(
        tuple(expand_lists(data)), split, codec, num_quantizers, bps, column, numbers
    )
    with progress() as bar:
        task = bar.add_task(str(output), total=None)
        problems = tokenize(
            config, output, shard_rows, processes,
            lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
    for problem in problems:
        out.print(f"left out: {problem}", highlight=False)
    if problems:
        raise VqasrError(f"{len(problems)} recordings were left out; the others are in {output}.")
