"""The command that writes down what was said."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqasr.cli.inputs import find_inputs
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
from vqasr.errors import VqasrError
from vqasr.files import replace_file

if TYPE_CHECKING:
    from vqasr.adapters.transcriber import Transcript


class Format(StrEnum):
    """What a transcript can be written as."""

    TEXT = "text"
    JSON = "json"
    SRT = "srt"
    VTT = "vtt"
    TSV = "tsv"


SUBTITLES = (Format.SRT, Format.VTT, Format.TSV)


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
    bps: Annotated[
        float | None, typer.Option(help="Compress audio to about this rate first; not with -n.")
    ] = None,
    language: Annotated[
        str | None,
        typer.Option(help="Of a multilingual Whisper (--asr base): fr, french, ..., or auto."),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="Of a multilingual Whisper: transcribe, or translate.")
    ] = None,
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
    from vqasr.adapters.transcriber import Transcriber

    form = Format.JSON if as_json else form
    paths = find_inputs(inputs)
    timed = timestamps or form in SUBTITLES
    if output is None and timed and form is not Format.JSON and len(paths) > 1:
        raise VqasrError(
            f"{len(paths)} inputs with their times in one {form.value} make no sense; give -o DIR."
        )
    targets = {} if output is None else _targets(paths, output, form)
    set_threads(threads)
    transcriber = Transcriber(
        asr, adapter=adapter, codec=codec, uncompressed=uncompressed, prior=load_prior(prior),
        language=language, task=task,
    )  # fmt: skip
    results: list[dict[str, Any]] = []
    failed = 0
    with progress(transient=True) as bar:
        for path in bar.track(paths, description="transcribing"):
            if skip_existing and path in targets and targets[path].is_file():
                continue
            try:
                with about(path):
                    found = transcriber(
                        path, num_quantizers=num_quantizers, bps=bps, partial=partial,
                        start_s=start_s, end_s=end_s, timestamps=timed,
                    )  # fmt: skip
            except VqasrError as error:
                if len(paths) == 1:
                    raise
                failed += 1
                complain(error)
                continue
            if path in targets:
                replace_file(targets[path], _written(found, path, form).encode())
            elif form is Format.JSON:
                results.append({"file": str(path)} | found.to_dict())
            else:
                print(_written(found, path, form), end="", flush=True)
    if output is None and form is Format.JSON:
        print(json.dumps(results))
    if failed:
        raise VqasrError(f"{failed} of {len(paths)} inputs could not be transcribed; see above.")


def _written(found: "Transcript", path: Path, form: Format) -> str:
    if form is Format.JSON:
        return json.dumps({"file": str(path)} | found.to_dict(), indent=1) + "\n"
    if found.segments is None:
        return found.text + "\n"
    from vqasr.cli import subtitles

    writers = {
        Format.TEXT: subtitles.to_lines, Format.SRT: subtitles.to_srt,
        Format.VTT: subtitles.to_vtt, Format.TSV: subtitles.to_tsv,
    }  # fmt: skip
    return writers[form](found.segments)


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
