"""What the commands share: the application, its options, and how errors are said."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from vqasr import __version__
from vqasr.errors import VqasrError
from vqasr.grid import FRAME_RATE_HZ

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Speech as a few hundred bits per second that recognisers read directly.",
)
out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)

CODEC_HELP = "Codec: the bundled vqasr-base, a folder or a hub id."
ASR_HELP = (
    "Recogniser: tiny.en, ctc-small (letters by CTC, reads codes only), a hub id, or a folder "
    "(Whisper, CTranslate2, or a CTC model of codes)."
)
ADAPTER_HELP = "Adapter folder or hub id; by default the one that ships for the recogniser."
PRIOR_HELP = "Code prior: folder or hub id; by default the one that ships for the codec."
CHUNK_HELP = (
    "Seconds in a chunk of the stream: what one lost chunk costs. Default: 10, but recordings of "
    "less than 30 s are one chunk."
)
START_HELP = "Leave out what comes before this second."
END_HELP = "Leave out what comes after this second."
LEVELS_HELP = "Codebooks to use, base first; fewer are fewer bits. Default: all."
Codec = Annotated[str, typer.Option(help=CODEC_HELP)]
Asr = Annotated[str, typer.Option(help=ASR_HELP)]
Adapter = Annotated[str | None, typer.Option(help=ADAPTER_HELP)]
Prior = Annotated[str | None, typer.Option(help=PRIOR_HELP)]
ChunkS = Annotated[float | None, typer.Option(help=CHUNK_HELP)]
StartS = Annotated[float, typer.Option(help=START_HELP, min=0.0)]
EndS = Annotated[float | None, typer.Option(help=END_HELP, min=0.0)]
Levels = Annotated[int | None, typer.Option("--num-quantizers", "-n", help=LEVELS_HELP)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
Partial = Annotated[bool, typer.Option("--partial", help="Use what is intact of a broken stream.")]
Threads = Annotated[int, typer.Option(help="CPU threads; 0 leaves torch's choice.", min=0)]


def progress(transient: bool = False) -> Progress:
    """A progress bar on stderr; unlike rich's default it leaves stdout alone (a file, perhaps)."""
    return Progress(console=err, transient=transient, redirect_stdout=False)


def example(*lines: str) -> str:
    """Examples at the end of a command's help."""
    return "**Examples**\n\n" + "\n\n".join(f"`{line}`" for line in lines)


def load_codec(name: str, threads: int) -> Any:
    from vqasr.codec.modeling import VQCodecModel

    set_threads(threads)
    return VQCodecModel.from_pretrained(name).eval()


def load_prior(name: str | None) -> Any:
    from vqasr.entropy.prior import CodePrior

    return None if name is None else CodePrior.from_pretrained(name)


def chunk_frames(chunk_s: float | None) -> int | None:
    """Frames in chunks of that many seconds; VqasrError where the format has no such length."""
    if chunk_s is None:
        return None
    from vqasr.stream.header import CHUNK_FRAMES

    if round(chunk_s * FRAME_RATE_HZ, 6) not in CHUNK_FRAMES:
        allowed = ", ".join(f"{frames / FRAME_RATE_HZ:g}" for frames in CHUNK_FRAMES)
        raise VqasrError(f"--chunk-s {chunk_s:g}: a chunk can last {allowed} s.")
    return round(chunk_s * FRAME_RATE_HZ)


def set_threads(threads: int) -> None:
    """Prepare torch and the libraries around it: their threads, and none of their output."""
    import torch
    import transformers

    if threads:
        torch.set_num_threads(threads)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


@contextmanager
def about(path: object) -> Iterator[None]:
    """What goes wrong in here is about this file, and `complain` says so."""
    try:
        yield
    except VqasrError as error:
        error.add_note(str(path))
        raise


def complain(error: Exception) -> None:
    """Say an error in one line, and about which file where it does not say so itself."""
    text = str(error)
    for start in (f"{name}: " for name in getattr(error, "__notes__", [])):
        text = text if text.startswith(start) else start + text
    err.print(f"[red]error:[/red] {escape(text)}", highlight=False)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"vqasr {__version__}")
        raise typer.Exit


@app.callback()
def about_vqasr(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    # Without the progress bars and advice to programmers; set before these are imported.
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
