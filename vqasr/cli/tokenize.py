"""Define the command tokenize."""

from functools import partial
from typing import Annotated

from typer import Argument, Option

from vqasr.cli import options
from vqasr.cli.inputs import expand_lists
from vqasr.cli.options import app, example, run_on_shards, set_threads
from vqasr.errors import VqasrError


@app.command(
    epilog=example(
        "vqasr tokenize train-00000.parquet train-00001.parquet -o codes/train -n 4",
        "vqasr tokenize user/corpus --split train -o codes/corpus --processes 8",
        "vqasr tokenize train.parquet -o codes/faster --speeds 0.9,1.0,1.1 --column vqs",
        "vqasr tokenize 's3://bucket/speech/*.tar' -o s3://bucket/codes --column vqs "
        "--format webdataset --engine ray --address auto",
    )
)
def tokenize(
    data: Annotated[
        list[str],
        Argument(
            help="Parquet or WebDataset tar files, folders or patterns of them, URLs (s3://...), "
            "folders of audio files, hub ids, or @list.txt."
        ),
    ],
    output: Annotated[str, Option("-o", "--output", help="Folder or URL for the codes.")],
    split: Annotated[str | None, Option(help="Split of a hub data set.")] = None,
    codec: options.Codec = "vqasr-base",
    num_quantizers: options.NumQuantizers = None,
    bps: options.Bps = None,
    column: Annotated[
        str, Option(help="codes: lists of integers; vqs: streams, with their real bitrate.")
    ] = "codes",
    pitch: Annotated[
        bool, Option("--pitch", help="Add the speaker's pitch to streams (--column vqs).")
    ] = False,
    speeds: Annotated[str, Option(help="Encode every recording at each of these speeds.")] = "1.0",
    form: Annotated[
        str,
        Option("--format", help="parquet, or webdataset: tar files with KEY.vqs, .txt and .json."),
    ] = "parquet",
    shard_rows: Annotated[
        int, Option(help="Recordings per file, the unit of work; a tar file is one.", min=1)
    ] = 500,
    device: Annotated[
        str, Option(help="cpu, or cuda: batches on a GPU, after a comparison with the CPU's codes.")
    ] = "cpu",
    engine: options.EngineName = options.EngineKind.local,
    processes: options.Processes = None,
    address: options.Address = None,
    gpus_per_process: options.GpusPerProcess = 0.0,
) -> None:
    """Encode a data set to codes, for training without audio and codec.

    All other columns are kept. The same command continues an interrupted run, on any engine and
    number of processes, with the same bytes. Recordings that cannot be read are reported, in
    _left_out.json too, and left out.
    """
    from vqasr.compression.rates import check_rate

    try:
        numbers = tuple(float(part) for part in speeds.split(","))
    except ValueError:
        raise VqasrError(f"--speeds {speeds}: use numbers, as in 0.9,1.0,1.1.") from None
    check_rate(codec, num_quantizers, bps)
    paths = tuple(expand_lists(data))
    workers = options.make_engine(engine, processes, address, gpus_per_process)
    workers.begin()

    from vqasr.data.tokenized import TokenizeConfig, tokenize

    config = TokenizeConfig(
        paths, split, codec, num_quantizers, bps, column, numbers, form, device,
        pitch,
    )  # fmt: skip
    set_threads(0)
    run_on_shards(partial(tokenize, config, output, shard_rows, workers), output)
