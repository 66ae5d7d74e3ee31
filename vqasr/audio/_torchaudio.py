"""Make `import torchaudio` work beside a CPU-only torch.

The registry's torchaudio wheel links CUDA. Beside a CPU-only torch, importing its native extension
raises OSError, and transformers, which imports torchaudio eagerly, fails with it. Resampling, mel
filters, Griffin-Lim and masking are pure Python. So if the plain import fails, a stand-in replaces
the extension and reports it as unavailable, as builds of torchaudio without the extension do.
"""

import importlib
import sys
import types
from typing import Any, NoReturn


def ensure_torchaudio() -> types.ModuleType:
    """Import and return torchaudio, without its native extension if that does not load.

    Raises:
        ImportError: torchaudio is not installed.
    """
    try:
        return importlib.import_module("torchaudio")
    except OSError:
        # The failed import leaves half-initialised submodules behind.
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
    vars(module).update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False,
        _IS_ALIGN_AVAILABLE=False,
        _load_lib=lambda name: False,
        _check_cuda_version=lambda: None,
        fail_if_no_align=lambda function: unavailable,
    )
    return module
