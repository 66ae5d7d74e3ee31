"""Define the command transcribe."""

import functools
import json
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from vqasr.cli import options
from vqasr.cli.inputs import STANDARD, expand_lists, find_inputs, output_paths, read_input
from vqasr.cli.options import (
    app,
    audio_warnings,
    describe_error,
    err,
    error_context,
    example,
    load_prior,
    loading,
    print_line,
    printable,
    process_files,
    progress,
    run_on_shards,
    set_threads,
    shown,
    without_existing,
)
from vqasr.cli.outputs import check_outputs, write_output
from vqasr.errors import VqasrError
from vqasr.names import OF_BUNDLED_CODEC, check_choices, split_name

if TYPE_CHECKING:
    from vqasr.adapters.transcriber import Transcript
    from vqasr.data.shard_work import Engine


Format = StrEnum("Format", ["text", "json", "srt", "vtt", "tsv"])
NO_SPEECH = "no speech was found: the text is empty"
SHORTEST_S = 0.1  # nobody expects a text of less


@app.command(
    epilog=example(
        "vqasr transcribe talk.wav",
        "vqasr transcribe talks/ -o texts/ --skip-existing",
        "vqasr transcribe talk.vqs -o talk.srt",
        "vqasr transcribe '*.vqs' --format json --timestamps",
        "vqasr transcribe @list.txt --num-quantizers 2",
        "vqasr transcribe talk.wav --bps 300",
        "vqasr transcribe talk.wav --uncompressed",
        "cat talk.vqs | vqasr transcribe -",
        "arecord -f S16_LE -r 16000 | vqasr transcribe - --live",
        "vqasr receive :5004 -o - | vqasr transcribe - --live --asr ctc-small",
        "vqasr transcribe --data 'corpus/*.parquet' -o texts/ --engine ray --processes 8",
    )
)
def transcribe(
    inputs: Annotated[
        list[str],
        Argument(
            help="Audio files, .vqs streams, - for standard input, folders, patterns, or "
            "@list.txt; with --data, data sets as in tokenize."
        ),
    ],
    output: Annotated[
        str | None,
        Option(
            "-o",
            "--output",
            help="Folder for one file per input; of data sets, also a URL. For one input, also a "
            "file that ends in .txt, .json, .srt, .vtt or .tsv.",
        ),
    ] = None,
    data: Annotated[
        bool,
        Option(
            "--data",
            help="Inputs are data sets of audio, codes or streams; -o gets parquet files with a "
            "column transcript.",
        ),
    ] = False,
    split: Annotated[str | None, Option(help="Split of a hub data set.")] = None,
    form: Annotated[
        Format | None,
        Option(
            "--format",
            help="srt, vtt and tsv have timestamps. Default: text, or as the file of -o ends.",
        ),
    ] = None,
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
    language: options.Language = None,
    task: options.SpeechTask = None,
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
    engine: options.EngineName = options.EngineKind.local,
    device: Annotated[str, Option(help="Of the recogniser: cpu or cuda.")] = "cpu",
    processes: options.Processes = None,
    address: options.Address = None,
    gpus_per_process: options.GpusPerProcess = 0.0,
) -> None:
    """Transcribe audio or streams.

    The recogniser reads the codes of a stream directly. Audio is encoded first, so that its
    transcript equals that of its stream; --uncompressed is for comparison. Files that cannot be
    read are reported, and the others are transcribed. With several --processes or --engine ray,
    they are shared among workers; then -o is needed.
    """
    from vqasr.compression.rates import check_rate

    check_choices(asr, language, task)
    # Streams and adapters may be another codec's than --codec, which is for audio.
    known = adapter is None and split_name(asr)[0] in OF_BUNDLED_CODEC
    check_rate(codec if known else None, num_quantizers, bps)
    form = Format.json if as_json else form
    workers = options.make_engine(engine, processes, address, gpus_per_process)
    if data:
        others = (live, uncompressed, prior, start_s, end_s is not None, partial, form, pcm_hz)
        if output is None or any(others):
            raise VqasrError(
                "--data writes a folder of transcripts in parquet: give -o, and leave --live, "
                "--uncompressed, --prior, --start-s, --end-s, --partial, --format, --json and "
                "--pcm-hz out."
            )
        sources = tuple(expand_lists(inputs))
        workers.begin()
        set_threads(threads)
        from vqasr.adapters.transcribe_data import TranscribeConfig, transcribe_data

        config = TranscribeConfig(
            sources, split, asr, adapter, language, task, codec,
            num_quantizers, bps, timestamps, device=device,
        )  # fmt: skip
        run_on_shards(functools.partial(transcribe_data, config, output, engine=workers), output)
        return
    output = None if output == STANDARD else output  # where texts go anyway
    named = None if output is None else _named_format(Path(output))
    if named and form not in (None, named):
        raise VqasrError(
            f"-o {output} is for {named}, but {form} was asked for: leave --format and --json out, "
            "or give -o another ending or a folder."
        )
    form = form or named or Format.text
    timed = timestamps or form not in ("text", "json")
    if live:
        text_alone = form == "text" and not timed and output is None and not uncompressed
        if inputs != [STANDARD] or start_s or end_s is not None or not text_alone:
            raise VqasrError(
                "--live prints the text of standard input: give - alone, without output folder, "
                "timestamps, other formats, --start-s, --end-s and --uncompressed."
            )
        set_threads(threads)
        from vqasr.adapters.loading import load_recogniser
        from vqasr.cli.live import transcribe_live

        with loading():
            recogniser = load_recogniser(asr, adapter, language, task).to(device)
        transcribe_live(
            recogniser, codec, load_prior(prior),
            num_quantizers=num_quantizers, bps=bps, pcm_hz=pcm_hz, partial=partial,
        )  # fmt: skip
        return
    lists = [Path(name[1:]) for name in inputs if name.startswith("@")]
    inputs = expand_lists(inputs)
    paths = find_inputs(inputs)
    if pcm_hz is not None and paths != [Path(STANDARD)]:
        raise VqasrError("--pcm-hz is for raw samples on standard input: give - alone.")
    if output is None and timed and form != "json" and len(paths) > 1:
        raise VqasrError(
            f"{len(paths)} inputs with timestamps cannot share one {form} output: give -o DIR."
        )
    suffix = _suffix(form)
    if output is None:
        targets = {}
    elif named:
        if len(paths) > 1:
            raise VqasrError(
                f"{output} is one file for {len(paths)} inputs: give -o DIR, a folder with a file "
                "per input."
            )
        targets = {paths[0]: Path(output)}
    else:
        targets = output_paths(paths, Path(output), suffix, inputs)
    check_outputs(targets.values(), [*paths, *lists], suffix, force)
    set_threads(threads)
    start = functools.partial(
        _FileTranscriber,
        {
            "asr": asr, "adapter": adapter, "codec": codec, "uncompressed": uncompressed,
            "prior": load_prior(prior), "language": language, "task": task,
            "device": device,
        },
        {
            "num_quantizers": num_quantizers, "bps": bps, "partial": partial, "start_s": start_s,
            "end_s": end_s, "timestamps": timed,
        },
        form,
        pcm_hz,
    )  # fmt: skip
    if skip_existing:
        paths = without_existing(paths, targets)
        if not paths:
            return
    if workers.in_process:
        with loading():
            transcriber = start(show_warnings=True)
        failed = _transcribe_here(transcriber, form, paths, targets)
    else:
        if output is None or STANDARD in map(str, paths):
            raise VqasrError("several workers write files: give -o DIR, and files as inputs.")
        start = functools.partial(start, show_warnings=False)
        failed = _transcribe_in_workers(start, paths, targets, workers)
    if failed:
        raise VqasrError(f"{failed} of {len(paths)} inputs could not be transcribed; see above.")


def _suffix(form: Format) -> str:
    return ".txt" if form == Format.text else f".{form}"


def _named_format(output: Path) -> Format | None:
    """Return the format of a file by its ending; None if the output is a folder, or will be."""
    if output.is_dir():
        return None
    endings = [_suffix(form) for form in Format]
    if output.suffix and output.suffix.lower() not in endings:
        raise VqasrError(
            f"-o {output}: a file has one of the endings {', '.join(endings)}; a folder whose name "
            "has a dot has to exist."
        )
    return next((form for form in Format if _suffix(form) == output.suffix.lower()), None)


class _FileTranscriber:
    """Transcribe one file after the other, here or in a worker.

    Args:
        models: settings of `Transcriber`.
        options: of its calls.
        form: format of the outputs.
        pcm_hz: of raw samples on standard input; None for a file with a header.
        show_warnings: prints them at once.
    """

    def __init__(
        self,
        models: dict[str, Any],
        options: dict[str, Any],
        form: str,
        pcm_hz: int | None,
        show_warnings: bool,
    ):
        from vqasr.adapters.transcriber import Transcriber
        from vqasr.cli.live import read_pcm

        self._transcriber, self._read_pcm = Transcriber(**models), read_pcm
        self._options, self._form, self._pcm_hz = options, form, pcm_hz
        self._show_warnings = show_warnings

    def transcribe(self, path: Path, target: Path | None) -> tuple[dict[str, Any], str]:
        """Return facts and text of a file, which is written to the target if there is one."""
        source: Any = path
        if str(path) == STANDARD:
            source = read_input(path) if self._pcm_hz is None else self._read_pcm(self._pcm_hz)
        with audio_warnings(self._show_warnings) as notes:
            transcript = self._transcriber(source, **self._options)
        if not transcript.text and transcript.seconds > SHORTEST_S:
            notes.append(NO_SPEECH)
            if self._show_warnings:
                print_line("warning", f"{path}: {NO_SPEECH}")
        facts = {"file": str(path)} | transcript.to_dict() | {"warnings": notes}
        if self._form == "json":
            text = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
        else:
            text = _format(transcript, self._form)
        if target is not None:
            write_output(target, text.encode(errors="backslashreplace"))
        return facts, text

    def __call__(self, task: dict[str, str]) -> dict[str, Any]:
        """Transcribe a task's "path" to its "target"; return its error, if there is one."""
        try:
            with error_context(task["path"]):
                facts, _ = self.transcribe(Path(task["path"]), Path(task["target"]))
        except Exception as error:  # whatever it is, the other files are transcribed
            return task | {"error": describe_error(error), "facts": {}}
        return task | {"error": "", "facts": facts}


def _transcribe_here(
    transcriber: _FileTranscriber, form: str, paths: list[Path], targets: dict[Path, Path]
) -> int:
    """Transcribe files one after the other; return the number of failed ones."""
    results: list[dict[str, Any]] = []

    def transcribe_file(path: Path) -> None:
        facts, text = transcriber.transcribe(path, targets.get(path))
        if form == "json":
            results.append(facts)
        elif path not in targets:
            print(text if len(paths) == 1 else f"{printable(path)}: {text}", end="", flush=True)
        if path in targets:
            words = len(facts["text"].split())
            err.print(f"{shown(targets[path])}: {words} words", highlight=False)

    failed = process_files(paths, "transcribing", transcribe_file)
    if not targets and form == "json":
        print(json.dumps(results, ensure_ascii=False))
    return failed


def _transcribe_in_workers(
    start: Callable[[], _FileTranscriber],
    paths: list[Path],
    targets: dict[Path, Path],
    engine: "Engine",
) -> int:
    """Share files among workers; return the number of failed ones."""
    tasks = [{"path": str(path), "target": str(targets[path])} for path in paths]
    failed = 0
    with progress(transient=True) as bar:
        done = engine.run(start, tasks)
        for result in bar.track(done, len(tasks), description="transcribing"):
            if result["error"]:
                failed += 1
                print_line("error", result["error"])
            for note in result["facts"].get("warnings", []):
                named = note.startswith(f"{result['path']}: ")  # notes on audio and lost frames are
                print_line("warning", note if named else f"{result['path']}: {note}")
    return failed


def _format(transcript: "Transcript", form: str) -> str:
    if transcript.segments is None:
        return transcript.text + "\n"
    from vqasr.cli.subtitles import format_segments

    return format_segments(transcript.segments, form)
