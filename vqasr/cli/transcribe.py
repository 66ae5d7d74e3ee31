"""Define the command transcribe."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from vqasr.cli import options
from vqasr.cli.inputs import STANDARD, find_inputs, output_paths, read_input
from vqasr.cli.options import (
    app,
    audio_warnings,
    example,
    load_prior,
    loading,
    process_files,
    set_threads,
)
from vqasr.cli.outputs import check_output, write_output
from vqasr.errors import VqasrError

if TYPE_CHECKING:
    from vqasr.adapters.transcriber import Transcript


Format = StrEnum("Format", ["text", "json", "srt", "vtt", "tsv"])


@app.command(
    epilog=example(
        "vqasr transcribe talk.wav",
        "vqasr transcribe talks/ -o texts/ --skip-existing",
        "vqasr transcribe talk.vqs --format srt > talk.srt",
        "vqasr transcribe '*.vqs' --format json --timestamps",
        "vqasr transcribe @list.txt --num-quantizers 2",
        "vqasr transcribe talk.wav --bps 300",
        "vqasr transcribe talk.wav --uncompressed",
        "cat talk.vqs | vqasr transcribe -",
        "arecord -f S16_LE -r 16000 | vqasr transcribe - --live",
        "vqasr receive :5004 -o - | vqasr transcribe - --live --asr ctc-small",
    )
)
def transcribe(
    inputs: Annotated[
        list[str],
        Argument(
            help="Audio files, .vqs streams, - for standard input, folders, patterns, or @list.txt."
        ),
    ],
    output: Annotated[
        Path | None, Option("-o", "--output", help="Folder for one file per input.")
    ] = None,
    form: Annotated[
        Format, Option("--format", help="srt, vtt and tsv have timestamps.")
    ] = Format.text,
    timestamps: Annotated[
        bool, Option("--timestamps", help="Add timestamps to text and JSON.")
    ] = False,
    live: Annotated[
        bool,
        Option(
            "--live",
            help="Print the text of standard input, audio (WAV, AU, --pcm-hz) or a stream, while "
            "it comes in.",
        ),
    ] = False,
    pcm_hz: options.PcmHz = None,
    skip_existing: options.SkipExisting = False,
    asr: options.Asr = "tiny.en",
    num_quantizers: options.NumQuantizers = None,
    bps: options.Bps = None,
    language: Annotated[
        str | None, Option(help="Language for --asr base, as in fr or french; auto detects it.")
    ] = None,
    task: Annotated[
        str | None, Option(help="transcribe, or translate to English, with --asr base.")
    ] = None,
    uncompressed: Annotated[
        bool, Option("--uncompressed", help="Transcribe audio without compression.")
    ] = False,
    adapter: options.Adapter = None,
    codec: options.Codec = "vqasr-base",
    prior: options.Prior = None,
    start_s: options.StartS = 0.0,
    end_s: options.EndS = None,
    partial: options.Partial = False,
    as_json: options.AsJson = False,
    force: options.Force = False,
    threads: options.Threads = 0,
) -> None:
    """Transcribe audio or streams.

    The recogniser reads the codes of a stream directly. Audio is encoded first, so that its
    transcript equals that of its stream; --uncompressed is for comparison. Files that cannot be
    read are reported, and the others are transcribed.
    """
    from vqasr.adapters.transcriber import Transcriber

    form = Format.json if as_json else form
    paths = find_inputs(inputs)
    timed = timestamps or form not in ("text", "json")
    if live:
        text_alone = form == "text" and not timed and output is None and not uncompressed
        if [str(path) for path in paths] != [STANDARD] or start_s or end_s or not text_alone:
            raise VqasrError(
                "--live prints the text of standard input: give - alone, without output folder, "
                "timestamps, other formats, --start-s, --end-s and --uncompressed."
            )
        set_threads(threads)
        _transcribe_live(
            asr, adapter, codec, prior, language, task, num_quantizers, bps, pcm_hz, partial
        )
        return
    if pcm_hz is not None:
        raise VqasrError("--pcm-hz is for raw samples that come in: add --live.")
    if output is None and timed and form != "json" and len(paths) > 1:
        raise VqasrError(
            f"{len(paths)} inputs with timestamps cannot share one {form} output: give -o DIR."
        )
    suffix = ".txt" if form == "text" else f".{form}"
    targets = {} if output is None else output_paths(paths, output, suffix)
    lists = [Path(name[1:]) for name in inputs if name.startswith("@")]
    for target in targets.values():
        check_output(target, [*paths, *lists], suffix, force)
    set_threads(threads)
    with loading():
        transcriber = Transcriber(
            asr, adapter=adapter, codec=codec, uncompressed=uncompressed, prior=load_prior(prior),
            language=language, task=task,
        )  # fmt: skip
    results: list[dict[str, Any]] = []

    def transcribe_file(path: Path) -> None:
        target = targets.get(path)
        if skip_existing and target is not None and target.is_file():
            return
        source = read_input(path) if str(path) == STANDARD else path
        with audio_warnings() as notes:
            transcript = transcriber(
                source, num_quantizers=num_quantizers, bps=bps, partial=partial, start_s=start_s,
                end_s=end_s, timestamps=timed,
            )  # fmt: skip
        facts = {"file": str(path)} | transcript.to_dict() | {"warnings": notes}
        if form == "json":
            results.append(facts)
        if target is not None:
            text = json.dumps(facts, indent=1) + "\n" if form == "json" else ""
            write_output(target, (text or _format(transcript, form)).encode())
        elif form != "json":
            print(_format(transcript, form), end="", flush=True)

    failed = process_files(paths, "transcribing", transcribe_file)
    if output is None and form == "json":
        print(json.dumps(results))
    if failed:
        raise VqasrError(f"{failed} of {len(paths)} inputs could not be transcribed; see above.")


def _transcribe_live(
    asr: str, adapter: str | None, codec: str, prior: str | None, language: str | None,
    task: str | None, num_quantizers: int | None, bps: float | None, pcm_hz: int | None,
    partial: bool,
) -> None:  # fmt: skip
    from vqasr.adapters.agreement import AgreementStream
    from vqasr.adapters.ctc_recogniser import CTCRecogniser
    from vqasr.adapters.ctc_stream import CTCStream
    from vqasr.adapters.load_recogniser import load_recogniser
    from vqasr.cli.live import transcribe_live

    with loading():
        recogniser = load_recogniser(asr, adapter, language, task)
    text: AgreementStream | CTCStream = AgreementStream(recogniser)
    if isinstance(recogniser, CTCRecogniser) and recogniser.search is None:
        text = CTCStream(recogniser)
    transcribe_live(
        text, recogniser, codec, load_prior(prior),
        num_quantizers=num_quantizers, bps=bps, pcm_hz=pcm_hz, partial=partial,
    )  # fmt: skip


def _format(transcript: "Transcript", form: str) -> str:
    if transcript.segments is None:
        return transcript.text + "\n"
    from vqasr.cli.subtitles import format_segments

    return format_segments(transcript.segments, form)
