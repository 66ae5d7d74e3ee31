"""Which prior belongs to a stream."""

from __future__ import annotations

from vqasr.entropy.bundled import bundled_prior
from vqasr.entropy.prior import CodePrior
from vqasr.errors import PriorMismatchError, StreamError
from vqasr.stream.header import NO_PRIOR, PRIOR_BYTES, StreamHeader


def named_by(prior: CodePrior) -> bytes:
    """The 2 bytes that name a prior in a header; zeros mean that there is none."""
    name = prior.fingerprint[:PRIOR_BYTES]
    return name if name != NO_PRIOR else b"\xff" * PRIOR_BYTES


def check_prior(prior: CodePrior, header: StreamHeader) -> None:
    """Raise StreamError unless the prior can code what this header describes."""
    config = prior.config
    if not header.names_codec(bytes.fromhex(config.codec_fingerprint)):
        raise StreamError(
            f"the prior was trained for codec {config.codec_fingerprint}, the stream is of "
            f"{header.fingerprint.hex()}. Use the codec's own prior, or none."
        )
    if header.num_quantizers > config.num_quantizers:
        raise StreamError(
            f"the prior knows {config.num_quantizers} codebooks, the stream has "
            f"{header.num_quantizers}."
        )
    if config.codebook_size > 1 << header.bits_per_code:
        raise StreamError(
            f"the prior knows codebooks of {config.codebook_size} entries, which "
            f"{header.bits_per_code} bits per code cannot name."
        )


def prior_for(header: StreamHeader, prior: CodePrior | None = None) -> CodePrior | None:
    """The prior that reads a stream: the given one, else a bundled one; None if it needs none.

    Raises:
        PriorMismatchError: the stream was written with another prior, or with one that is not here.
    """
    wanted = header.prior_fingerprint
    if wanted == NO_PRIOR:
        return None
    if prior is None:
        bundled = bundled_prior(header.fingerprint)
        prior = bundled if bundled is not None and named_by(bundled) == wanted else None
    if prior is None:
        raise PriorMismatchError(
            f"The stream names codec {header.fingerprint.hex()} and prior {wanted.hex()}, which "
            "does not ship with this vqasr; pass the prior that wrote it (--prior FOLDER). If you "
            "know that it ships, the first bytes of the stream are damaged."
        )
    if named_by(prior) != wanted:
        raise PriorMismatchError(
            f"The stream was written with prior {wanted.hex()}, but the prior at hand is "
            f"{named_by(prior).hex()}; pass the one that wrote it."
        )
    try:
        check_prior(prior, header)
    except StreamError as error:
        raise PriorMismatchError(
            f"The prior at hand cannot have written this stream: {error}"
        ) from error
    return prior
