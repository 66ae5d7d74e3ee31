"""Priors that ship with the package."""

from __future__ import annotations

from functools import lru_cache

from vqasr.assets import BUNDLED_PRIORS
from vqasr.entropy.prior import CodePrior

load_bundled = lru_cache(CodePrior.from_pretrained)


def bundled_prior(codec_fingerprint: bytes) -> CodePrior | None:
    """Return the bundled prior of a codec, or None.

    codec_fingerprint: all 6 bytes, or the first 3 as in a stream's header.
    """
    priors = (load_bundled(name) for name in BUNDLED_PRIORS)
    name = codec_fingerprint.hex()
    return next((p for p in priors if p.config.codec_fingerprint.startswith(name)), None)
