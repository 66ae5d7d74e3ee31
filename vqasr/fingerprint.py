"""Short names for weights."""

import hashlib
from collections.abc import Mapping

from torch import Tensor

FINGERPRINT_BYTES = 6


def weights_fingerprint(tensors: Mapping[str, Tensor], about: str = "") -> bytes:
    """6 bytes of the SHA-256 over names and values, the same after saving in float16.

    Args:
        tensors: by name; any order.
        about: what else the meaning of the weights depends on.
    """
    digest = hashlib.sha256(about.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().half().numpy().tobytes())
    return digest.digest()[:FINGERPRINT_BYTES]
