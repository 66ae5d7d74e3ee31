"""Priors that ship with the package."""

from __future__ import annotations

from functools import lru_cache

from vqasr.assets import bundled_priors
from vqasr.entropy.prior import CodePrior


def bundled_prior(codec_fingerprint: bytes) -> CodePrior | None:
    """The prior that ships for a codec, None where there is none.

    codec_fingerprint: its 6 bytes, or the 3 of a stream's header.
    """
    found = (load_bundled(name) for name in bundled_priors())
    wanted = codec_fingerprint.hex()
    return next((p for p in found if p.config.codec_fingerprint.startswith(wanted)), None)


@lru_cache
def load_bundled(name: str) -> CodePrior:
    """A bundled prior, read once in a process."""
    return CodePrior.from_pretrained(name)
