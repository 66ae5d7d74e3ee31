"""Commands that look at streams and change them: info, trim and cat."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from vqasr.cli.options import AsJson, Partial, Prior, about, app, example, load_prior, out, progress
from vqasr.entropy.prior import CodePrior
from vqasr.errors import StreamError
from vqasr.files import read_file, replace_file
from vqasr.stream.header import CODEC_BYTES, FORMAT_VERSION
from vqasr.stream.whole import Stream, stream_from_bytes

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
    data = read_file(stream)
    coder = load_prior(prior)
    with about(stream):
        content = stream_from_bytes(data, partial=partial, prior=coder)
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
    from vqasr.stream.edit import trim_stream

    coder = load_prior(prior)
    with about(stream):
        trimmed = trim_stream(read_file(stream), num_quantizers, coder)
    replace_file(output, trimmed)


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
    from vqasr.stream.edit import cat_streams

    with progress(transient=True) as bar:
        parts = [read_file(path) for path in bar.track(streams, description="reading")]
    replace_file(output, cat_streams(parts, load_prior(prior)))


def _facts(content: Stream, data: bytes, prior: CodePrior | None) -> dict[str, Any]:
    from vqasr.stream.priors import bundled_prior, check_prior
    from vqasr.stream.rates import Rates

    header = content.header
    kept = content.codes[:, content.codes[0] >= 0]
    prior = prior or bundled_prior(header.fingerprint[:CODEC_BYTES])
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
        "format": header.version,
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
        "chunk_s": header.chunk_s if header.version > 1 else None,
        "stream_id": header.stream_id if header.version == FORMAT_VERSION else None,
        "codec": header.fingerprint.hex(),
        "prior": header.prior_fingerprint.hex() if any(header.prior_fingerprint) else None,
    }
