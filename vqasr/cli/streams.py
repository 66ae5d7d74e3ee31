"""Define the commands info, trim and cat."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from vqasr.cli import options
from vqasr.cli.inputs import STREAMS, find_inputs, read_input
from vqasr.cli.options import (
    app,
    check_not_empty,
    error_context,
    example,
    load_prior,
    out,
    print_notes,
    process_files,
    progress,
    shown,
)
from vqasr.cli.outputs import check_outputs, write_output
from vqasr.errors import StreamError, VqasrError

if TYPE_CHECKING:  # commands import their modules when they run, so that vqasr starts quickly
    from vqasr.entropy.prior import CodePrior
    from vqasr.stream.stream import Stream

Input = Annotated[Path, Argument(help="A .vqs stream, or - for standard input.")]
Output = Annotated[
    Path, Option("-o", "--output", help="The .vqs file to write, or - for standard output.")
]


@app.command(epilog=example("vqasr info talk.vqs", "vqasr info archive/ --json"))
def info(
    streams: Annotated[
        list[str], Argument(help="Streams: files, -, folders, patterns, or @list.txt.")
    ],
    prior: options.Prior = None,
    as_json: options.AsJson = False,
    partial: options.Partial = False,
) -> None:
    """Show the contents and bitrate of one stream, or a line for each of several and their sum.

    - nominal_bps: at a fixed width per code
    - order0_bps: empirical entropy of the codes (too low for short streams)
    - prior_bps: cross-entropy under the code prior
    - coded_bps: bytes of the file
    - container_bps: header, chunk fields and checksums, with chunks of 1, 5 and 60 s

    With --json, one object in a line for each stream.
    """
    from vqasr.stream.stream import Stream

    paths = find_inputs(streams, STREAMS)
    loaded_prior = load_prior(prior)
    found: dict[Path, dict[str, Any]] = {}
    table = len(paths) > 1 and not as_json

    def read(path: Path) -> None:
        data = read_input(path)
        content = Stream.load(data, partial=partial, prior=loaded_prior)
        found[path] = _size(content, data) if table else _facts(content, data, loaded_prior)

    failed = process_files(paths, "reading", read, bar_of_one=False)
    if as_json:
        for path, facts in found.items():
            print(json.dumps({"file": str(path), **facts}, ensure_ascii=False))
    elif not table:
        for name, value in found[paths[0]].items():
            if isinstance(value, dict):
                value = ", ".join(f"{bps:g} (chunks of {key})" for key, bps in value.items())
            out.print(f"{name:17} {'-' if value is None else value}", highlight=False)
    else:
        out.print("   seconds       bytes  bit/s  lost frames  codebooks  file", highlight=False)
        for path, facts in found.items():
            books = facts["num_quantizers"]
            note = ", its end is missing" if facts["truncated"] else ""
            out.print(f"{_line(facts)}  {books:9}  {shown(path)}{note}", highlight=False)
        names = ("seconds", "bytes", "lost_frames")
        total = {name: sum(facts[name] for facts in found.values()) for name in names}
        out.print(f"{_line(total)}  {'':9}  all {len(found)}", highlight=False)
    if failed:
        raise VqasrError(f"{failed} of {len(paths)} streams could not be read; see above.")


def _size(content: "Stream", data: bytes) -> dict[str, Any]:
    return {
        "num_quantizers": content.header.num_quantizers,
        "lost_frames": content.lost_frames,
        "truncated": content.truncated,
        "seconds": content.seconds,
        "bytes": len(data),
    }


def _line(facts: dict[str, Any]) -> str:
    """Format what a stream and the sum of streams have."""
    bps = 8 * facts["bytes"] / facts["seconds"] if facts["seconds"] else math.nan
    return f"{facts['seconds']:10.1f}  {facts['bytes']:10}  {bps:5.0f}  {facts['lost_frames']:11}"


@app.command(
    epilog=example(
        "vqasr trim talk.vqs -n 2 -o talk2.vqs",
        "vqasr trim meeting.vqs -o minute.vqs --start-s 600 --end-s 660",
    )
)
def trim(
    stream: Input,
    output: Output,
    num_quantizers: Annotated[
        int | None,
        Option("--num-quantizers", "-n", help="Number of codebooks to keep. Default: all."),
    ] = None,
    start_s: options.StartS = 0.0,
    end_s: options.EndS = None,
    partial: options.Partial = False,
    no_pitch: Annotated[bool, Option("--no-pitch", help="Remove the pitch too.")] = False,
    prior: options.Prior = None,
    force: options.Force = False,
) -> None:
    """Remove codebooks from a stream to lower its bitrate, or cut a part out of it.

    Neither needs audio or codec. A damaged stream (--partial) can be cut where no frames are lost.
    """
    from vqasr.stream.stream import Stream

    check_outputs([output], [stream], ".vqs", force)
    loaded_prior = load_prior(prior)
    with error_context(stream):
        content = Stream.load(read_input(stream), prior=loaded_prior, partial=partial)
        print_notes(stream, content)
        if start_s or end_s is not None:
            content = content.cut(start_s, end_s)
            check_not_empty(content, start_s, end_s)
        if num_quantizers is not None or no_pitch:
            n = len(content.codes) if num_quantizers is None else num_quantizers
            content = content.trim(n, pitch=not no_pitch)
        data = content.to_bytes()
    write_output(output, data)


@app.command(epilog=example("vqasr cat part1.vqs part2.vqs -o whole.vqs"))
def cat(
    streams: Annotated[
        list[str], Argument(help="Streams of one codec: files, -, folders, patterns, or @list.txt.")
    ],
    output: Output,
    prior: options.Prior = None,
    force: options.Force = False,
) -> None:
    """Join streams with the same number of codebooks.

    The first stream sets the length of chunks. Single chunks become chunks of 10 s if they are 30 s
    or longer together.
    """
    from vqasr.stream.stream import Stream

    paths = find_inputs(streams, STREAMS, repeated=True)
    check_outputs([output], paths, ".vqs", force)
    loaded_prior = load_prior(prior)
    parts = []
    with progress(transient=True) as bar:
        for path in bar.track(paths, description="reading"):
            with error_context(path):
                parts.append(Stream.load(read_input(path), prior=loaded_prior))
    write_output(output, Stream.join(parts).to_bytes())


def _facts(content: "Stream", data: bytes, prior: "CodePrior | None") -> dict[str, Any]:
    from vqasr.entropy.bundled import bundled_prior
    from vqasr.stream.header import FORMAT_VERSION
    from vqasr.stream.priors import check_prior
    from vqasr.stream.rates import Rates

    header = content.header
    kept = content.codes[:, content.codes[0] >= 0]
    prior = prior or bundled_prior(header.fingerprint)
    try:
        if prior is not None:
            check_prior(prior, header)
    except StreamError:
        prior = None
    if prior is not None and not prior.knows(kept):
        prior = None
    rates = Rates(
        prior, header.chunk_frames, header.hop_length, header.bits_per_code,
        variable_depth=prior is not None and prior.config.variable_depth,
    )  # fmt: skip
    rates.add(kept, content.samples, len(data))
    summary = rates.summary() if content.samples else dict.fromkeys(rates.summary())
    shown = ("nominal_bps", "order0_bps", "prior_bps", "coded_bps")
    return {
        "format": FORMAT_VERSION,
        "single_chunk": header.single,
        "pitch": header.pitch,
        "frames": content.frames,
        **_size(content, data),
        **{name: summary[name] for name in shown},
        "container_bps": rates.container_bps(),
        "chunk_s": None if header.single else header.chunk_s,
        "stream_id": None if header.single else header.stream_id,
        "codec": header.fingerprint.hex(),
        "prior": header.prior_fingerprint.hex() if any(header.prior_fingerprint) else None,
    }
