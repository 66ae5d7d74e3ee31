"""Fingerprints: short hashes that identify weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # streams need fingerprints, but no torch
    from torch import Tensor

FINGERPRINT_BYTES = 6


def weights_fingerprint(tensors: Mapping[str, Tensor], context: str = "") -> bytes:
    """Hash names and float16 values of tensors to 6 bytes of SHA-256.

    Args:
        tensors: by name; any order.
        context: settings that also change the meaning of the weights.
    """
    values = {n: t.detach().cpu().half().numpy().tobytes() for n, t in tensors.items()}
    return bytes_fingerprint(values, context)


def bytes_fingerprint(values: Mapping[str, bytes], context: str = "") -> bytes:
    """Hash context, names and bytes, in the order of the names, to 6 bytes of SHA-256."""
    digest = hashlib.sha256(context.encode())
    for name, value in sorted(values.items()):
        digest.update(name.encode())
        digest.update(value)
    return digest.digest()[:FINGERPRINT_BYTES]
