"""Short names for weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # streams need fingerprints, but no torch
    from torch import Tensor

FINGERPRINT_BYTES = 6


def weights_fingerprint(tensors: Mapping[str, Tensor], about: str = "") -> bytes:
    """6 bytes of the SHA-256 over names and values, the same after saving in float16.

    Args:
        tensors: by name; any order.
        about: what else the meaning of the weights depends on.
    """
    values = {n: t.detach().cpu().half().numpy().tobytes() for n, t in tensors.items()}
    return bytes_fingerprint(values, about)


def bytes_fingerprint(values: Mapping[str, bytes], about: str = "") -> bytes:
    """6 bytes of the SHA-256 over names and bytes, in the order of the names."""
    digest = hashlib.sha256(about.encode())
    for name, value in sorted(values.items()):
        digest.update(name.encode())
        digest.update(value)
    return digest.digest()[:FINGERPRINT_BYTES]
