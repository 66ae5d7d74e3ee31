"""Loading of weights that must be complete."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers.utils import logging

from vqasr.assets import resolve
from vqasr.errors import CodecError


def load_checked(
    load: Callable[..., Any],
    kind: str,
    advice: str,
    name_or_path: str | os.PathLike[str],
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Load a model with transformers' `from_pretrained`.

    Args:
        load: that method.
        kind: of the model, and advice: which names it has, for errors.
        name_or_path: bundled name, folder or hub id.

    Raises:
        CodecError: it cannot be found, or weights are missing or left over.
    """
    kwargs["output_loading_info"] = True
    kwargs.setdefault("use_safetensors", True)  # no pickles
    try:
        source = resolve(name_or_path)
        with _without_bar() if Path(source).is_dir() else nullcontext():
            model, info = load(source, *args, **kwargs)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise CodecError(
            f"{kind} {str(name_or_path)!r} cannot be loaded ({str(error).splitlines()[0]}). Use "
            f"{advice}."
        ) from error
    # transformers only warns about missing weights, and would go on with random ones.
    wrong = {key: sorted(map(str, value))[:3] for key, value in info.items() if value}
    if wrong:
        raise CodecError(f"{str(name_or_path)!r} does not hold a vqasr {kind}: {wrong}.")
    return model


@contextmanager
def _without_bar() -> Iterator[None]:
    """Hide the progress bar of transformers: a local folder is read within a moment."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
