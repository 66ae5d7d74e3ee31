"""Files that ship with the package."""

import os
from pathlib import Path

ASSETS = Path(__file__).parent
CLIPS = ASSETS / "clips"

BUNDLED_CODECS = ("vqasr-base",)
BUNDLED_ADAPTERS = ("vqasr-base-whisper-tiny.en", "vqasr-base-whisper-base")
BUNDLED_PRIORS = ("vqasr-base-prior",)
BUNDLED_VOCODERS = ("vqasr-base-vocoder",)
_MODELS = ("ctc-small", *BUNDLED_CODECS, *BUNDLED_ADAPTERS, *BUNDLED_PRIORS, *BUNDLED_VOCODERS)


def resolve(name_or_path: str | os.PathLike[str]) -> str:
    """Return the folder of a bundled model, or the name itself: a folder or a hub id.

    Raises:
        FileNotFoundError: it is none of them, so that the hub need not be asked.
    """
    name = str(name_or_path)
    if name in _MODELS:
        return str(ASSETS / name)
    if "/" not in name and not Path(name).is_dir():
        raise FileNotFoundError("no such name or folder, and no hub id, as in user/name")
    return name
