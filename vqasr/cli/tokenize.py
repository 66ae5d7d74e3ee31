"""The command tokenize."""

from pathlib import Path
from typing import Annotated

import typer

from vqasr.cli.options import Codec, Levels, app, example, out, progress
from vqasr.errors import VqasrError


@app.command(
    epilog=example(
        "vqasr tokenize train-00000.parquet train-00001.parquet -o codes/train -n 4",
        "vqasr tokenize user/corpus --split train -o codes/corpus --processes 8",
        "vqasr tokenize train.parquet -o codes/faster --speeds 0.9,1.0,1.1 --column vqs",
    )
)
def tokenize(
    data: Annotated[list[str], typer.Argument(help="Parquet files, folders of them, or hub ids.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the codes.")],
    split: Annotated[str | None, typer.Option(help="Split of a hub data set.")] = None,
    codec: Codec = "vqasr-base",
    num_quantizers: Levels = None,
    bps: Annotated[
        float | None, typer.Option(help="Instead of -n: about so many bits per second.")
    ] = None,
    column: Annotated[
        str, typer.Option(help="codes: lists of integers; vqs: whole streams, real bytes.")
    ] = "codes",
    speeds: Annotated[
        str, typer.Option(help="Every recording at each of these speeds, by commas.")
    ] = "1.0",
    shard_rows: Annotated[int, typer.Option(help="Recordings in a file.", min=1)] = 500,
    processes: Annotated[int, typer.Option(help="That encode, one thread each.", min=1)] = 1,
) -> None:
    """Encode a data set once, so that training reads codes and needs no codec.

    All other columns are kept. An interrupted run goes on; recordings that cannot be read are
    named and left out.
    """
    from vqasr.data.tokenized import TokenizeConfig, tokenize

    settings = TokenizeConfig(
        tuple(data), split, codec, num_quantizers, bps, column, _numbers(speeds)
    )
    with progress() as bar:
        task = bar.add_task(str(output), total=None)
        problems = tokenize(
            settings, output, shard_rows, processes,
            lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
    for problem in problems:
        out.print(f"left out: {problem}", highlight=False)
    if problems:
        raise VqasrError(f"{len(problems)} recordings were left out; the others are in {output}.")


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise VqasrError(f"--speeds {text}: numbers are needed, as in 0.9,1.0,1.1.") from None
