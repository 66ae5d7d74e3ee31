"""The command that writes down what was said."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from vqasr.adapters.segments import Segment, to_lines, to_srt, to_tsv, to_vtt
from vqasr.cli.options import (
    Adapter,
    AsJson,
    Asr,
    Codec,
    EndS,
    Levels,
    Partial,
    Prior,
    StartS,
    Threads,
    about,
    app,
    complain,
    example,
    load_prior,
    progress,
    set_threads,
)
from vqasr.data.inputs import find_inputs
from vqasr.errors import VqasrError
from vqasr.files import replace_file


class Format(StrEnum):
    """What a transcript can be written as."""

    TEXT = "text"
    JSON = "json"
    SRT = "srt"
    VTT = "vtt"
    TSV = "tsv"


SUBTITLES = {Format.SRT: to_srt, Format.VTT: to_vtt, Format.TSV: to_tsv}


@app.command(
    epilog=example(
        "vqasr transcribe talk.wav",
        "vqasr transcribe talks/ -o texts/ --skip-existing",
        "vqasr transcribe talk.vqs --format srt > talk.srt",
        "vqasr transcribe '*.vqs' --format json --timestamps",
        "vqasr transcribe @list.txt --num-quantizers 2",
        "vqasr transcribe talk.wav --uncompressed",
    )
)
def transcribe(
    inputs: Annotated[
        list[str],
        typer.Argument(help="Audio files, .vqs streams, folders, patterns, or @list.txt."),
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A folder, for a file per input.")
    ] = None,
    form: Annotated[
        Format, typer.Option("--format", help="srt, vtt and tsv have the time of each segment.")
    ] = Format.TEXT,
    timestamps: Annotated[
        bool, typer.Option("--timestamps", help="Times of segments in text and JSON too.")
    ] = False,
    skip_existing: Annotated[
        bool, typer.Option(help="Leave files that exist: goes on with an interrupted job.")
    ] = False,
    asr: Asr = "tiny.en",
    num_quantizers: Levels = None,
    uncompressed: Annotated[
        bool, typer.Option("--uncompressed", help="Give the recogniser the audio itself.")
    ] = False,
    adapter: Adapter = None,
    codec: Codec = "vqasr-base",
    prior: Prior = None,
    start_s: StartS = 0.0,
    end_s: EndS = None,
    partial: Partial = False,
    as_json: AsJson = False,
    threads: Threads = 0,
) -> None:
    """Write down speech.

    A stream goes straight to the recogniser. Audio is encoded first, so that what is heard is what
    a stream would give; --uncompressed compares with the audio itself. A file that cannot be read
    is reported, and the others are transcribed all the same.
    """
    from vqasr.transcription import Transcriber

    form = Format.JSON if as_json else form
    paths = find_inputs(inputs)
    timed = timestamps or form in SUBTITLES
    if output is None and timed and form is not Format.JSON and len(paths) > 1:
        raise VqasrError(
            f"{len(paths)} inputs with their times in one {form.value} make no sense; give -o DIR."
        )
    targets = {} if output is None else _targets(paths, output, form)
    set_threads(threads)
    transcriber = Transcriber(asr, adapter, codec, uncompressed, load_prior(prior))
    results: list[dict[str, Any]] = []
    failed = 0
    with progress(transient=True) as bar:
        for path in bar.track(paths, description="transcribing"):
            if skip_existing and path in targets and targets[path].is_file():
                continue
            try:
                with about(path):
                    result = transcriber(path, num_quantizers, partial, start_s, end_s, timed)
            except VqasrError as error:
                if len(paths) == 1:
                    raise
                failed += 1
                complain(error)
                continue
            if path in targets:
                replace_file(targets[path], _written(result, form).encode())
            elif form is Format.JSON:
                results.append(result)
            else:
                print(_written(result, form), end="", flush=True)
    if output is None and form is Format.JSON:
        print(json.dumps(results))
    if failed:
        raise VqasrError(f"{failed} of {len(paths)} inputs could not be transcribed; see above.")


def _written(result: dict[str, Any], form: Format) -> str:
    if form is Format.JSON:
        return json.dumps(result, indent=1) + "\n"
    if form in SUBTITLES:
        return SUBTITLES[form](_segments(result))
    return to_lines(_segments(result)) if "segments" in result else result["text"] + "\n"


def _segments(result: dict[str, Any]) -> list[Segment]:
    return [Segment(**segment) for segment in result["segments"]]


def _targets(paths: list[Path], output: Path, form: Format) -> dict[Path, Path]:
    """Where each transcript goes; VqasrError before any work where two would be one."""
    suffix = ".txt" if form is Format.TEXT else f".{form.value}"
    if output.exists() and not output.is_dir():
        raise VqasrError(f"{output} is a file; -o names a folder, which gets a file per input.")
    targets = {path: output / f"{path.stem}{suffix}" for path in paths}
    taken: dict[Path, Path] = {}
    for path, target in targets.items():
        if target in taken:
            raise VqasrError(
                f"{taken[target]} and {path} would both be written to {target}; transcribe them "
                "into different folders."
            )
        taken[target] = path
    output.mkdir(parents=True, exist_ok=True)
    return targets
