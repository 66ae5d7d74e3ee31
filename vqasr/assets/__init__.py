"""Files that ship with the package, and the names they go by."""

import os
from pathlib import Path

ASSETS = Path(__file__).parent
DEFAULT_CODEC = "vqasr-base"
CLIPS = ASSETS / "clips"

_CODECS = {DEFAULT_CODEC: ASSETS / "vqasr-base"}
_PRIORS = {folder.name: folder for folder in (ASSETS / "vqasr-base-prior",)}
_ADAPTERS = {
    folder.name: folder
    for folder in (ASSETS / "vqasr-base-whisper-tiny.en", ASSETS / "vqasr-base-whisper-base")
}
_CTC = {"ctc-small": ASSETS / "ctc-small"}


def resolve_codec(name_or_path: str | os.PathLike[str]) -> str:
    """Folder of a bundled codec, or the name itself for transformers to resolve."""
    return str(_CODECS.get(str(name_or_path), name_or_path))


def resolve_adapter(name_or_path: str) -> str:
    """Folder of a bundled adapter, or the name itself."""
    return str(_ADAPTERS.get(name_or_path, name_or_path))


def bundled_adapters() -> list[str]:
    """Names of the adapters that ship with the package."""
    return list(_ADAPTERS)


def resolve_prior(name_or_path: str) -> str:
    """Folder of a bundled code prior, or the name itself."""
    return str(_PRIORS.get(name_or_path, name_or_path))


def bundled_priors() -> list[str]:
    """Names of the code priors that ship with the package."""
    return list(_PRIORS)


def resolve_ctc(name_or_path: str) -> str:
    """Folder of a bundled CTC recogniser, or the name itself."""
    return str(_CTC.get(name_or_path, name_or_path))
