"""Priors of streams: the one that a header names, and whether a prior fits."""

from __future__ import annotations

from vqasr.entropy.bundled import bundled_prior
from vqasr.entropy.prior import CodePrior
from vqasr.errors import PriorMismatchError, StreamError
from vqasr.stream.header import NO_PRIOR, PRIOR_BYTES, StreamHeader


def named_by(prior: CodePrior | None) -> bytes:
    """Return the 2 bytes that name a prior in a header; zeros stand for None."""
    if prior is None:
        return NO_PRIOR
    name = prior.fingerprint[:PRIOR_BYTES]
    return name if name != NO_PRIOR else b"\xff" * PRIOR_BYTES


def check_prior(prior: CodePrior, header: StreamHeader) -> None:
    """Raise StreamError unless the prior can code a stream with this header."""
    config = prior.config
    if not header.names_codec(bytes.fromhex(config.codec_fingerprint)):
        raise StreamError(
            f"the prior was trained for codec {config.codec_fingerprint}, the stream is of "
            f"{header.fingerprint.hex()}. Use the codec's own prior, or none."
        )
    if header.num_quantizers > config.num_quantizers:
        raise StreamError(
            f"the prior has {config.num_quantizers} codebooks, the stream has "
            f"{header.num_quantizers}. Use the codec's own prior, or none."
        )
    if config.codebook_size > 1 << header.bits_per_code:
        raise StreamError(
            f"the prior has codebooks of {config.codebook_size} entries, but the stream's "
            f"{header.bits_per_code} bits per code allow {1 << header.bits_per_code}."
        )


def prior_for(header: StreamHeader, prior: CodePrior | None = None) -> CodePrior | None:
    """Return the prior that reads a stream: the given one, else a bundled one; None if unused.

    Raises:
        PriorMismatchError: the stream was written with another prior, or none is available.
    """
    if header.prior_fingerprint == NO_PRIOR:
        return None
    prior = prior or bundled_prior(header.fingerprint)
    if prior is None or named_by(prior) != header.prior_fingerprint:
        other = "which does not ship" if prior is None else f"not with {named_by(prior).hex()}"
        raise PriorMismatchError(
            f"The stream was written with prior {header.prior_fingerprint.hex()} of codec "
            f"{header.fingerprint.hex()}, {other}; pass the one that wrote it (--prior "
            "FOLDER). If this is the right one, the first bytes of the stream are damaged."
        )
    try:
        check_prior(prior, header)
    except StreamError as error:
        raise PriorMismatchError(f"The prior cannot have written this stream: {error}") from error
    return prior
