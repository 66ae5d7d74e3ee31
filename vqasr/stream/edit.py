"""Changing streams without touching audio: fewer codebooks, or several streams in one."""

from __future__ import annotations

import numpy as np

from vqasr.entropy.prior import CodePrior
from vqasr.errors import InvalidCodesError, StreamError
from vqasr.stream.header import CODEC_BYTES, LONGEST_WHOLE_FRAMES, SINGLE_VERSION
from vqasr.stream.priors import bundled_prior
from vqasr.stream.whole import Stream, stream_from_bytes, stream_to_bytes


def trim_stream(data: bytes, num_quantizers: int, prior: CodePrior | None = None) -> bytes:
    """Keep the first codebooks of a stream: what the encoder would have written with so many.

    Args:
        data: a whole stream.
        num_quantizers: from 1 to those that the stream has.
        prior: None for the one that ships for the codec, if one does.

    Raises:
        InvalidCodesError: `num_quantizers` is out of range, or the codes are not the prior's.
        StreamError: the stream is damaged, or was written with another prior.
    """
    stream = stream_from_bytes(data, prior=prior)
    available = stream.header.num_quantizers
    if not 1 <= num_quantizers <= available:
        raise InvalidCodesError(
            f"num_quantizers={num_quantizers}, but the stream holds {available} codebooks; "
            f"1 to {available} can be kept."
        )
    return _write(stream, stream.codes[:num_quantizers], stream.samples, prior)


def cat_streams(parts: list[bytes], prior: CodePrior | None = None) -> bytes:
    """Join streams of one codec, with equally many codebooks, one after another.

    Every part but the last is filled up to a whole frame, which may add up to one frame (40 ms) of
    what the decoder makes of its end. The length of chunks is that of the first part, or, where
    that is a short stream as encoders write them, the one that a whole recording would have.

    Args:
        parts: whole streams.
        prior: None for the one that ships for the codec, if one does.

    Raises:
        StreamError: a stream is damaged, or the streams do not belong together.
    """
    streams = []
    for i, data in enumerate(parts):
        try:
            streams.append(stream_from_bytes(data, prior=prior))
        except StreamError as error:
            raise type(error)(f"stream {i + 1} of {len(parts)}: {error}") from error
    if not streams:
        raise StreamError("there are no streams to join.")
    kinds = [_kind(stream) for stream in streams]
    for i, kind in enumerate(kinds):
        if kind != kinds[0]:
            raise StreamError(
                f"stream {i + 1} has {kind}, the first {kinds[0]}. Only streams of one codec with "
                "equally many codebooks can be joined; `vqasr trim` drops codebooks."
            )
    codes = np.concatenate([stream.codes for stream in streams], axis=1)
    unused = streams[-1].frames * streams[-1].header.hop_length - streams[-1].samples
    samples = codes.shape[1] * streams[0].header.hop_length - unused
    return _write(streams[0], codes, samples, prior)


def _kind(stream: Stream) -> str:
    header = stream.header
    return (
        f"codec {header.fingerprint[:3].hex()}, {header.num_quantizers} codebooks of "
        f"{header.bits_per_code} bits and frames of {header.hop_length} samples"
    )


def _write(stream: Stream, codes: np.ndarray, samples: int, prior: CodePrior | None) -> bytes:
    header = stream.header
    chunk_frames: int | None = header.chunk_frames
    if header.version == SINGLE_VERSION and chunk_frames == LONGEST_WHOLE_FRAMES:
        chunk_frames = None  # as every short recording has it, whether chosen or not
    return stream_to_bytes(
        codes,
        samples=samples,
        fingerprint=header.fingerprint,
        bits_per_code=header.bits_per_code,
        hop_length=header.hop_length,
        chunk_frames=chunk_frames,
        prior=bundled_prior(header.fingerprint[:CODEC_BYTES]) if prior is None else prior,
    )
