"""What the commands share: the application, its options, and how errors are said."""

from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Speech as a few hundred bits per second that recognisers read directly.",
)
out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)

CODEC_HELP = "Codec: the bundled vqasr-base, a folder or a hub id."
ASR_HELP = "Recogniser: tiny.en, a hub id, or a folder (transformers or CTranslate2)."
ADAPTER_HELP = "Adapter folder or hub id; by default the one that ships for the recogniser."
LEVELS_HELP = "Codebooks to use, base first; fewer are fewer bits. Default: all."
Codec = Annotated[str, typer.Option(help=CODEC_HELP)]
Asr = Annotated[str, typer.Option(help=ASR_HELP)]
Adapter = Annotated[str | None, typer.Option(help=ADAPTER_HELP)]
Levels = Annotated[int | None, typer.Option("--num-quantizers", "-n", help=LEVELS_HELP)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
Partial = Annotated[
    bool, typer.Option("--partial", help="Use what precedes the damage of a broken stream.")
]
Threads = Annotated[int, typer.Option(help="CPU threads; 0 leaves torch's choice.", min=0)]


def progress(transient: bool = False) -> Progress:
    """A progress bar on stderr; unlike rich's default it leaves stdout alone (a file, perhaps)."""
    return Progress(console=err, transient=transient, redirect_stdout=False)


def example(*lines: str) -> str:
    """Examples at the end of a command's help."""
    return "**Examples**\n\n" + "\n\n".join(f"`{line}`" for line in lines)


def load_codec(name: str, threads: int) -> Any:
    from vqasr.modeling_vqcodec import VQCodecModel

    set_threads(threads)
    return VQCodecModel.from_pretrained(name).eval()


def set_threads(threads: int) -> None:
    if threads:
        torch.set_num_threads(threads)


def complain(error: Exception) -> None:
    err.print(f"[red]error:[/red] {escape(str(error))}", highlight=False)


@app.callback()
def quiet_libraries() -> None:
    """Without the progress bars and advice to programmers of transformers and datasets."""
    import datasets
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()
