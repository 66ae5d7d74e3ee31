"""Make `import torchaudio` work beside a CPU-only torch.

The registry's torchaudio wheel links CUDA. Beside a CPU-only torch its native extension raises
OSError on import, and since transformers imports torchaudio eagerly, Whisper cannot be imported
either. Only the native part is affected: resampling, mel filters, Griffin-Lim and masking are pure
Python. So where the plain import fails, the extension is replaced by a stand-in that says "not
available", which is what torchaudio itself says in builds without the extension.

Where torchaudio loads by itself, nothing happens.
"""

import importlib
import sys
import types
from typing import Any, NoReturn


def ensure_torchaudio() -> types.ModuleType:
    """Import torchaudio, without its native extension if that one does not load.

    Returns:
        The torchaudio module.

    Raises:
        ImportError: torchaudio is not installed.
    """
    try:
        return importlib.import_module("torchaudio")
    except OSError:
        # The failed import leaves half-initialised submodules behind; they must not be reused.
        for name in [n for n in sys.modules if n == "torchaudio" or n.startswith("torchaudio.")]:
            del sys.modules[name]
        sys.modules["torchaudio._extension"] = _extension_stand_in()
        return importlib.import_module("torchaudio")


def _extension_stand_in() -> types.ModuleType:
    def unavailable(*args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError(
            "This needs torchaudio's native extension, which does not load beside this torch "
            "build. Install a torchaudio wheel that matches torch (CPU with CPU, CUDA with CUDA)."
        )

    module = types.ModuleType("torchaudio._extension")
    module._IS_TORCHAUDIO_EXT_AVAILABLE = False  # type: ignore[attr-defined]
    module._IS_ALIGN_AVAILABLE = False  # type: ignore[attr-defined]
    module._load_lib = lambda name: False  # type: ignore[attr-defined]
    module._check_cuda_version = lambda: None  # type: ignore[attr-defined]
    module.fail_if_no_align = lambda function: unavailable  # type: ignore[attr-defined]
    return module
