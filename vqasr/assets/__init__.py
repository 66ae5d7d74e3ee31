"""Files that ship with the package, and the names they go by."""

import os
from pathlib import Path

ASSETS = Path(__file__).parent
DEFAULT_CODEC = "vqasr-base"
CLIPS = ASSETS / "clips"

_CODECS = {DEFAULT_CODEC: ASSETS / "vqasr-base"}
# Adapters by (codec, recogniser); the first is what the demo hears with.
_ADAPTERS = {(DEFAULT_CODEC, "tiny.en"): ASSETS / "vqasr-base-whisper-tiny.en"}


def resolve_codec(name_or_path: str | os.PathLike[str]) -> str:
    """Folder of a bundled codec, or the name itself for transformers to resolve."""
    return str(_CODECS.get(str(name_or_path), name_or_path))


def resolve_adapter(name_or_path: str) -> str:
    """Folder of a bundled adapter, or the name itself."""
    bundled = {folder.name: folder for folder in _ADAPTERS.values()}
    return str(bundled.get(name_or_path, name_or_path))


def adapter_for(recogniser: str) -> str | None:
    """Name of the bundled adapter of the default codec for a recogniser, None if there is none."""
    folder = _ADAPTERS.get((DEFAULT_CODEC, recogniser))
    return folder.name if folder else None
