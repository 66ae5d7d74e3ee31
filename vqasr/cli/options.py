"""Share the application, options, progress bar and error output of the commands."""

import io
import math
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.status import Status
from typer import Option

from vqasr import __version__
from vqasr.errors import AudioWarning, VqasrError
from vqasr.grid import FRAME_RATE_HZ

if TYPE_CHECKING:
    from vqasr.data.shard_work import Engine
    from vqasr.stream.stream import Stream

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Compress speech to a few hundred bits per second, which recognisers read directly.",
)
out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)


def no_nan(value: float | None) -> float | None:
    """Refuse nan, which every comparison lets pass."""
    if value is not None and math.isnan(value):
        raise typer.BadParameter("nan is no number.")
    return value


EngineKind = StrEnum("EngineKind", ["local", "ray"])

Adapter = Annotated[
    str | None,
    Option(help="Adapter: folder or hub id. Default: the one bundled for the recogniser."),
]
Address = Annotated[
    str | None,
    Option(
        help="Address of a running Ray cluster, or auto to find it. Default: one of this machine "
        "alone."
    ),
]
AsJson = Annotated[bool, Option("--json", help="Print JSON.")]
Asr = Annotated[
    str,
    Option(
        help="Recogniser: tiny.en or base (Whisper); ctc-small (reads codes only), ctc-small+lm "
        "with its language model, ctc-small+lm:FILE with that of an ARPA file; a hub id; or the "
        "folder of a Whisper, a CTranslate2 Whisper or a CTC model."
    ),
]
Bps = Annotated[
    float | None,
    Option(
        help="Target bits per second, as the average of many recordings of speech, instead of -n. "
        "Easy frames use fewer codebooks.",
        callback=no_nan,
    ),
]
ChunkS = Annotated[
    float | None,
    Option(
        help="Seconds per chunk, the unit of loss. Default: 10, or a single chunk for less than "
        "30 s.",
        callback=no_nan,
    ),
]
LiveChunkS = Annotated[
    float | None, Option("--chunk-s", help="Seconds per chunk. Default: 0.2.", callback=no_nan)
]
Pitch = Annotated[
    bool,
    Option(
        "--pitch",
        help="Add the speaker's pitch, some 75 bit/s beside --bps: decoded audio keeps the melody. "
        "Recognisers do not read it.",
    ),
]
Language = Annotated[
    str | None, Option(help="Language for --asr base, as in fr or french; auto detects it.")
]
SpeechTask = Annotated[
    str | None, Option(help="transcribe, or translate to English, with --asr base.")
]
Codec = Annotated[str, Option(help="Codec: vqasr-base (bundled), a folder or a hub id.")]
EngineName = Annotated[
    EngineKind, Option("--engine", help="local: processes of this machine; ray: a Ray cluster.")
]
EndS = Annotated[float | None, Option(help="End at this second.", min=0.0, callback=no_nan)]
Force = Annotated[bool, Option("--force", help="Allow the output to replace an input.")]
GpusPerProcess = Annotated[
    float,
    Option(help="GPU of each Ray worker; 0.25 puts four on one, 0 uses the CPU.", min=0.0),
]
NumQuantizers = Annotated[
    int | None, Option("--num-quantizers", "-n", help="Number of codebooks to use. Default: all.")
]
PcmHz = Annotated[
    int | None,
    Option(
        help="Sampling rate of raw 16-bit mono samples (little-endian) on standard input, instead "
        "of a file with a header."
    ),
]
Partial = Annotated[bool, Option("--partial", help="Use the intact part of a damaged stream.")]
Prior = Annotated[
    str | None, Option(help="Code prior: folder or hub id. Default: the one bundled for the codec.")
]
Processes = Annotated[
    int | None,
    Option(
        help="Number of worker processes, one thread each. Default: 1; with Ray, all CPUs.", min=1
    ),
]
SkipExisting = Annotated[
    bool, Option(help="Skip inputs whose output exists, to continue an interrupted job.")
]
StartS = Annotated[float, Option(help="Start at this second.", min=0.0, callback=no_nan)]
Threads = Annotated[int, Option(help="Number of CPU threads; 0: torch's default.", min=0)]

Vocoder = Annotated[
    str | None,
    Option(
        help="Vocoder: folder or hub id (recipes/train_vocoder), or griffin-lim, which needs no "
        "training. Default: the one bundled for the codec."
    ),
]


def make_engine(
    kind: EngineKind,
    processes: int | None,
    address: str | None,
    gpus_per_process: float = 0.0,
) -> "Engine":
    """Make the engine of --engine, --processes, --address and --gpus-per-process."""
    from vqasr.data.engines import LocalEngine, RayEngine

    if kind == EngineKind.ray:
        return RayEngine(processes, address, gpus_per_process)
    if address is not None or gpus_per_process:
        raise VqasrError("--address and --gpus-per-process are for Ray: add --engine ray.")
    return LocalEngine(processes or 1)


def progress(transient: bool = False, disable: bool = False) -> Progress:
    """Make a progress bar on stderr that, unlike rich's default, does not redirect stdout."""
    return Progress(console=err, transient=transient, redirect_stdout=False, disable=disable)


def loading() -> Status:
    """Show that models are being loaded, on a terminal, within a `with` statement."""
    return err.status("loading models")


def example(*lines: str) -> str:
    """Format examples for the end of a command's help."""
    return "**Examples**\n\n" + "\n\n".join(f"`{line}`" for line in lines)


def load_prior(name: str | None) -> Any:
    from vqasr.entropy.prior import CodePrior

    return None if name is None else CodePrior.from_pretrained(name)


def chunk_frames(chunk_s: float | None) -> int | None:
    """Convert seconds per chunk to frames; raise VqasrError unless the format allows them."""
    if chunk_s is None:
        return None
    from vqasr.stream.header import CHUNK_FRAMES

    frames = round(min(chunk_s, 1e6) * FRAME_RATE_HZ, 6)
    if frames not in CHUNK_FRAMES:
        allowed = ", ".join(f"{n / FRAME_RATE_HZ:g}" for n in CHUNK_FRAMES)
        raise VqasrError(f"--chunk-s {chunk_s:g}: use one of {allowed}.")
    return int(frames)


def set_threads(threads: int) -> None:
    """Set torch's threads, and silence transformers."""
    import torch
    import transformers

    if threads:
        torch.set_num_threads(threads)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


@contextmanager
def error_context(path: object) -> Iterator[None]:
    """Add a path to errors, for `print_error`."""
    try:
        yield
    except Exception as error:
        error.add_note("standard input" if str(path) == "-" else str(path))
        raise


def shown(text: object) -> str:
    """Make a text safe for rich: names may hold markup, control characters and any bytes."""
    return escape(printable(text))


def printable(text: object) -> str:
    """Make a text safe to print: names may hold control characters and any bytes."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in str(text))


def print_notes(path: object, content: "Stream") -> None:
    """Warn of what is missing in the intact part of a damaged stream."""
    for note in content.notes():
        print_line("warning", f"{path}: {note}.")


def describe_error(error: BaseException) -> str:
    """Describe an error in one line that begins with the path of its file."""
    text = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.filename is not None:
        text = f"{os.fsdecode(error.filename)}: {error.strerror}."
    elif not isinstance(error, VqasrError | OSError):
        text = f"{type(error).__name__}: {text} (VQASR_DEBUG=1 shows where.)"
    for start in (f"{name}: " for name in getattr(error, "__notes__", [])):
        text = text if text.startswith(start) else start + text
    return text


def print_line(kind: str, text: str) -> None:
    """Print an error or warning on stderr."""
    color = "red" if kind == "error" else "yellow"
    err.print(f"[{color}]{kind}:[/{color}] {shown(text)}", highlight=False)


def print_error(error: BaseException) -> None:
    """Print an error in one line, and with VQASR_DEBUG where it was raised."""
    print_line("error", describe_error(error))
    if os.environ.get("VQASR_DEBUG"):
        err.print(escape("".join(traceback.format_exception(error))), highlight=False)


def run_on_shards(work: Callable[..., list[str]], output: str) -> None:
    """Run `work(advance=...)` under a progress bar; print the rows that it left out of the output.

    Raises:
        VqasrError: there are any.
    """
    with progress() as bar:
        task = bar.add_task(output, total=None)
        messages = work(advance=lambda done, total: bar.update(task, completed=done, total=total))
    for message in messages:
        out.print(f"left out: {shown(message)}", highlight=False)
    if messages:
        raise VqasrError(f"{len(messages)} recordings were left out; the others are in {output}.")


@contextmanager
def audio_warnings(show: bool = True) -> Iterator[list[str]]:
    """Collect warnings about audio, and print them in one line each."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AudioWarning)
        try:
            yield notes
        finally:
            about_audio = (w for w in caught if issubclass(w.category, AudioWarning))
            notes += dict.fromkeys(str(warning.message) for warning in about_audio)
            for note in notes if show else ():
                print_line("warning", note)


def process_files(
    paths: list[Path], description: str, process: Callable[[Path], None], bar_of_one: bool = True
) -> int:
    """Process files with a progress bar, print errors, and return the number of failed files.

    Without `bar_of_one`, a single file has no bar, for what takes no time.

    Raises:
        Exception: of the only file.
    """
    failed = 0
    with progress(transient=True, disable=not bar_of_one and len(paths) == 1) as bar:
        for path in bar.track(paths, description=description):
            try:
                with error_context(path):
                    process(path)
            except BrokenPipeError:
                raise
            except Exception as error:  # whatever it is, the other files are processed
                if len(paths) == 1:
                    raise
                failed += 1
                print_error(error)
    return failed


def check_not_empty(content: "Stream", start_s: float, end_s: float | None) -> None:
    """Raise VqasrError if a part of a stream has no audio."""
    if not content.samples:
        until = "the end" if end_s is None else f"--end-s {end_s}"
        raise VqasrError(f"there is nothing from --start-s {start_s} to {until}.")


def without_existing(paths: list[Path], targets: dict[Path, Path]) -> list[Path]:
    """Return the inputs whose output does not exist yet, and print how many are left out."""
    new = [path for path in paths if path not in targets or not targets[path].is_file()]
    if len(new) < len(paths):
        print_line("skipped", f"{len(paths) - len(new)} of {len(paths)} outputs exist")
    return new


def _show_version(requested: bool) -> None:
    if requested:
        print(f"vqasr {__version__}")
        raise typer.Exit


@app.callback()
def main_options(
    version: Annotated[
        bool, Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    for stream in (sys.stdout, sys.stderr):  # names and texts may not fit the terminal's encoding
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # Silences progress bars and advice to programmers; read when these libraries are imported.
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
