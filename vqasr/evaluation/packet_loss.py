"""Simulate packet loss: drop chunks of a stream."""

import io
from dataclasses import replace

import numpy as np

from vqasr.entropy.prior import CodePrior
from vqasr.stream.header import HEADER_BYTES
from vqasr.stream.reader import StreamReader


def drop_chunks(
    data: bytes, probability: float, rng: np.random.Generator, prior: CodePrior | None = None
) -> bytes:
    """Drop chunks of a stream at random; the header always remains.

    Args:
        data: a whole stream.
        probability: of losing each chunk, independently.
        rng: draws the losses.
        prior: that coded the stream; None takes a bundled one where one is needed.

    Returns:
        The stream without the lost chunks. A stream of a single chunk becomes an empty stream of
        the longer format.

    Raises:
        StreamError: the stream is damaged.
    """
    reader = StreamReader(io.BytesIO(data), prior=prior)
    chunks = list(reader.intact_chunks())
    reader.raise_problem()
    if reader.header.single:
        # Without its chunk a short stream is invalid, so the header of the long format remains.
        kept = rng.random() >= probability
        return data if kept else replace(reader.header, single=False).to_bytes()
    parts, position = [data[:HEADER_BYTES]], HEADER_BYTES
    for chunk in chunks:
        end = position + chunk.total_bytes
        if rng.random() >= probability:
            parts.append(data[position:end])
        position = end
    return b"".join(parts)
