"""Commands that look at streams and change them: info, trim and cat."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqasr.cli.options import AsJson, Partial, Prior, about, app, example, load_prior, out, progress
from vqasr.errors import StreamError
from vqasr.files import read_file

if TYPE_CHECKING:  # a command loads what it needs, so that the others start quickly
    from vqasr.entropy.prior import CodePrior
    from vqasr.stream.stream import Stream

Output = Annotated[Path, typer.Option("-o", "--output", help="The .vqs file to write.")]


@app.command(epilog=example("vqasr info talk.vqs", "vqasr info talk.vqs --json"))
def info(
    stream: Annotated[Path, typer.Argument(help="A .vqs stream.")],
    prior: Prior = None,
    as_json: AsJson = False,
    partial: Partial = False,
) -> None:
    """Say what a stream holds and what it costs, counted in every way.

    nominal_bps: fixed width. order0_bps: empirical entropy of this stream's codes (too low for a
    short stream, whose few codes look predictable). prior_bps: cross-entropy under the code prior.
    coded_bps: the bytes of the file. container_bps: header, chunk fields and checksums, at chunks
    of 1, 5 and 60 s.
    """
    from vqasr.stream.stream import Stream

    data = read_file(stream)
    coder = load_prior(prior)
    with about(stream):
        content = Stream.load(data, partial=partial, prior=coder)
    facts = _facts(content, data, coder)
    if as_json:
        print(json.dumps(facts))
        return
    for name, value in facts.items():
        out.print(f"{name:17} {value}", highlight=False)


@app.command(epilog=example("vqasr trim talk.vqs -n 2 -o talk2.vqs"))
def trim(
    stream: Annotated[Path, typer.Argument(help="A .vqs stream.")],
    num_quantizers: Annotated[
        int, typer.Option("--num-quantizers", "-n", help="Codebooks to keep, base first.")
    ],
    output: Output,
    prior: Prior = None,
) -> None:
    """Drop codebooks of a stream: fewer bits, without the audio or the codec."""
    from vqasr.stream.stream import Stream

    coder = load_prior(prior)
    with about(stream):
        Stream.load(read_file(stream), prior=coder).trim(num_quantizers).save(output)


@app.command(epilog=example("vqasr cat part1.vqs part2.vqs -o whole.vqs"))
def cat(
    streams: Annotated[list[Path], typer.Argument(help="Streams of one codec.")],
    output: Output,
    prior: Prior = None,
) -> None:
    """Join streams with equally many codebooks, one after another.

    Chunks are as long as those of the first stream; short streams of one chunk become chunks of
    10 s when they are 30 s together.
    """
    from vqasr.stream.stream import Stream

    coder = load_prior(prior)
    parts = []
    with progress(transient=True) as bar:
        for path in bar.track(streams, description="reading"):
            with about(path):
                parts.append(Stream.load(read_file(path), prior=coder))
    Stream.join(parts).save(output)


def _facts(content: "Stream", data: bytes, prior: "CodePrior | None") -> dict[str, Any]:
    from vqasr.entropy.bundled import bundled_prior
    from vqasr.stream.header import FORMAT_VERSION
    from vqasr.stream.priors import check_prior
    from vqasr.stream.rates import Rates

    header = content.header
    kept = content.codes[:, content.codes[0] >= 0]
    prior = prior or bundled_prior(header.fingerprint)
    if prior is not None:
        try:
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
    return {
        "format": FORMAT_VERSION,
        "single_chunk": header.single,
        "num_quantizers": header.num_quantizers,
        "frames": content.frames,
        "lost_frames": content.lost_frames,
        "seconds": content.seconds,
        "bytes": len(data),
        "nominal_bps": summary["nominal_bps"],
        "order0_bps": summary["order0_bps"],
        "prior_bps": summary["prior_bps"],
        "coded_bps": summary["coded_bps"],
        "container_bps": rates.container_bps(),
        "chunk_s": header.chunk_s,
        "stream_id": None if header.single else header.stream_id,
        "codec": header.fingerprint.hex(),
        "prior": header.prior_fingerprint.hex() if any(header.prior_fingerprint) else None,
    }
