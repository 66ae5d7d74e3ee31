"""Define the commands record and play."""

from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from vqasr.cli import options
from vqasr.cli.inputs import open_stream
from vqasr.cli.options import (
    app,
    chunk_frames,
    err,
    error_context,
    example,
    load_prior,
    loading,
    set_threads,
)
from vqasr.cli.outputs import check_outputs, create_live

LiveVocoder = Annotated[
    str | None,
    Option(help="Trained vocoder: folder or hub id. Default: the one bundled for the codec."),
]
Device = Annotated[
    str | None,
    Option(
        help="Number or part of the name, as `python -m sounddevice` lists them. Default: the "
        "system's."
    ),
]


@app.command(
    epilog=example(
        "vqasr record -o talk.vqs",
        "vqasr record -o - -n 4 --pitch | vqasr send - 192.0.2.7:5004",
        "vqasr record -o - -n 4 | vqasr transcribe - --live",
    )
)
def record(
    output: Annotated[
        Path, Option("-o", "--output", help="The .vqs file to write, or - for standard output.")
    ],
    num_quantizers: options.NumQuantizers = None,
    bps: options.Bps = None,
    codec: options.Codec = "vqasr-base",
    prior: options.Prior = None,
    chunk_s: options.LiveChunkS = None,
    pitch: options.Pitch = False,
    device: Device = None,
    threads: options.Threads = 0,
) -> None:
    """Encode the microphone, until Ctrl-C.

    The stream is written while you speak, in chunks of 0.2 s (--chunk-s). Needs the extra `live`.
    """
    from vqasr.audio.devices import Microphone, check_device
    from vqasr.cli.live import encode_live
    from vqasr.compression.compress import load_codec
    from vqasr.compression.rates import operating_point

    check_outputs([output], [], ".vqs")
    frames = chunk_frames(chunk_s)
    check_device("input", device)
    loaded_prior = load_prior(prior)
    set_threads(threads)
    with loading():
        model = load_codec(codec)
    point = operating_point(model.config, num_quantizers=num_quantizers, bps=bps)
    # The file is opened last: an older one stays if the device cannot be used.
    with Microphone(device, model.config.first_piece) as microphone, create_live(output) as file:
        err.print("recording; Ctrl-C ends it")
        encode_live(microphone, file, model, point, frames, loaded_prior, pitch, str(output))
    if microphone.overflows:
        err.print(f"warning: {microphone.overflows} times the machine was too slow, and lost sound")


@app.command(epilog=example("vqasr play talk.vqs", "vqasr receive :5004 -o - | vqasr play -"))
def play(
    stream: Annotated[Path, Argument(help="A .vqs stream, or - for standard input.")],
    vocoder: LiveVocoder = None,
    codec: options.Codec = "vqasr-base",
    prior: options.Prior = None,
    device: Device = None,
    partial: options.Partial = False,
    threads: options.Threads = 0,
) -> None:
    """Play a stream on the loudspeaker while it comes in.

    Needs the extra `live`, and a trained vocoder: Griffin-Lim cannot decode live.
    """
    import numpy as np

    from vqasr.audio.devices import Loudspeaker, check_device
    from vqasr.cli.live import decode_live
    from vqasr.compression.compress import LiveDecoder, load_codec

    check_device("output", device)
    loaded_prior = load_prior(prior)
    set_threads(threads)
    with loading():
        model = load_codec(codec)
        decoder = LiveDecoder(model, vocoder)

    def decoded() -> Generator[np.ndarray, None, None]:
        # Errors in here are the stream's, others the device's.
        with error_context(stream), open_stream(stream) as file:
            yield from decode_live(file, model, decoder, loaded_prior, partial)

    with Loudspeaker(device) as loudspeaker, closing(decoded()) as pieces:
        for samples in pieces:
            loudspeaker.write(samples)
    if loudspeaker.gaps:
        err.print(f"warning: {loudspeaker.gaps} times the sound came too late, and there was a gap")
