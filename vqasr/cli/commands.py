"""The command line: `vqasr` and its everyday commands."""

import io
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from vqasr.cli import experiments, streams, tokenize, transcribe  # noqa: F401 (they register)
from vqasr.cli.options import (
    AsJson,
    ChunkS,
    Codec,
    EndS,
    Levels,
    Partial,
    Prior,
    StartS,
    Threads,
    about,
    app,
    chunk_frames,
    complain,
    err,
    example,
    load_codec,
    load_prior,
    out,
    progress,
)
from vqasr.errors import VqasrError
from vqasr.files import read_file, replace_file


@app.command(
    epilog=example(
        "vqasr encode talk.wav -o talk.vqs",
        "vqasr encode *.flac -o streams/ --num-quantizers 4",
        "vqasr encode talk.wav -o talk.vqs --bps 300",
    )
)
def encode(
    audio: Annotated[list[Path], typer.Argument(help="Files that soundfile reads, any rate.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="A .vqs file, or a folder.")],
    num_quantizers: Levels = None,
    bps: Annotated[
        float | None,
        typer.Option(
            help="About so many bits per second of speech: each frame is described as finely as "
            "its bits are worth. (Codecs with measured rates only.)"
        ),
    ] = None,
    codec: Codec = "vqasr-base",
    prior: Prior = None,
    chunk_s: ChunkS = None,
    skip_existing: Annotated[
        bool, typer.Option(help="Leave streams that exist: goes on with an interrupted job.")
    ] = False,
    threads: Threads = 0,
) -> None:
    """Encode speech into .vqs streams."""
    from vqasr.compression.compress import compress
    from vqasr.compression.rates import operating_point

    model = load_codec(codec, threads)
    operating_point(model.config, num_quantizers=num_quantizers, bps=bps)  # before any work
    coder = load_prior(prior)
    frames = chunk_frames(chunk_s)
    targets = _targets(audio, output)
    failed = 0
    with progress(transient=True) as bar:
        for path in bar.track(audio, description="encoding"):
            if skip_existing and targets[path].is_file():
                continue
            try:
                with about(path):
                    stream = compress(
                        path, codec=model, num_quantizers=num_quantizers, bps=bps,
                        chunk_frames=frames, prior=coder,
                    )  # fmt: skip
                    data = stream.to_bytes()
            except VqasrError as error:
                if len(audio) == 1:
                    raise
                failed += 1
                complain(error)
                continue
            replace_file(targets[path], data)
            rate = 8 * len(data) / stream.seconds
            err.print(f"{targets[path]}: {len(data)} bytes, {rate:.0f} bps", highlight=False)
    if failed:
        raise VqasrError(f"{failed} of {len(audio)} files could not be encoded; see above.")


@app.command(
    epilog=example(
        "vqasr decode talk.vqs -o talk.wav",
        "vqasr decode meeting.vqs -o minute.wav --start-s 600 --end-s 660",
    )
)
def decode(
    stream: Annotated[Path, typer.Argument(help="A .vqs stream.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The WAV to write, 16 kHz mono.")],
    codec: Codec = "vqasr-base",
    prior: Prior = None,
    start_s: StartS = 0.0,
    end_s: EndS = None,
    partial: Partial = False,
    threads: Threads = 0,
) -> None:
    """Decode a stream back to audio (log-mel and Griffin-Lim: intelligible, not pretty)."""
    import numpy as np
    import soundfile

    from vqasr.compression.compress import decode as decode_stream
    from vqasr.grid import SAMPLING_RATE_HZ
    from vqasr.stream.stream import Stream

    coder = load_prior(prior)
    with about(stream):
        content = Stream.load(
            read_file(stream), prior=coder, start_s=start_s, end_s=end_s, partial=partial
        )
        if not content.samples and (start_s > 0 or end_s is not None):
            until = "the end" if end_s is None else f"--end-s {end_s}"
            raise VqasrError(f"there is nothing from --start-s {start_s} to {until}.")
    model = load_codec(codec, threads)
    with about(stream):
        audio = decode_stream(content, codec=model)
    output.parent.mkdir(parents=True, exist_ok=True)
    wav = io.BytesIO()
    soundfile.write(
        wav, np.clip(audio, -1.0, 1.0), SAMPLING_RATE_HZ, subtype="PCM_16", format="WAV"
    )
    replace_file(output, wav.getvalue())


@app.command(epilog=example("vqasr demo", "vqasr demo my_recording.wav", "vqasr demo --json"))
def demo(
    audio: Annotated[Path | None, typer.Argument(help="Your own clip.")] = None,
    as_json: AsJson = False,
    threads: Threads = 0,
) -> None:
    """Encode clips at several rates and transcribe each stream."""
    from vqasr.adapters.ctc_recogniser import CTCRecogniser
    from vqasr.adapters.whisper_recogniser import WhisperRecogniser
    from vqasr.audio.files import read_audio
    from vqasr.cli.demo import Clip, bundled_clips, demo_clip, summary

    model = load_codec("vqasr-base", threads)
    clips = bundled_clips() if audio is None else [Clip(audio.name, read_audio(audio), None)]
    whisper, ctc = WhisperRecogniser.from_pretrained(), CTCRecogniser.from_pretrained("ctc-small")
    lines = []
    for clip in clips:
        if not as_json:
            out.print(f"[bold]{clip.name}[/bold]  {escape(clip.text or '')}", highlight=False)
        for line in demo_clip(clip, model, whisper, ctc):
            lines.append(line)
            if not as_json:
                wer = "-" if line.wer is None else f"{line.wer:.3f}"
                out.print(
                    f"  {line.system:13} {line.bytes:7} bytes {line.coded_bps:7.0f} bps  "
                    f"WER {wer}  {escape(line.text)}",
                    highlight=False,
                )
    if as_json:
        print(json.dumps([asdict(line) for line in lines]))
        return
    for text in summary(lines):
        out.print(text, highlight=False)


def _targets(audio: list[Path], output: Path) -> dict[Path, Path]:
    """Where each input's stream goes; refuses to overwrite anything of value before any work."""
    if output.suffix and not output.is_dir():
        if len(audio) > 1:
            raise VqasrError(f"{output} is one file for {len(audio)} inputs; give -o DIR.")
        if output.resolve() == audio[0].resolve():
            raise VqasrError(f"{output} is the recording itself and would be overwritten.")
        output.parent.mkdir(parents=True, exist_ok=True)
        return {audio[0]: output}
    targets = {path: output / f"{path.stem}.vqs" for path in audio}
    if len(set(targets.values())) < len(targets):
        raise VqasrError(
            f"several inputs have the same name and would overwrite each other in {output}; "
            "encode them into different folders."
        )
    output.mkdir(parents=True, exist_ok=True)
    return targets


def main() -> None:
    """Entry point: errors of vqasr are one line, without a traceback."""
    try:
        app()
    except (VqasrError, OSError) as error:
        complain(error)
        sys.exit(1)
