"""Losing chunks of a stream, as networks do."""

import io
from dataclasses import replace

import numpy as np

from vqasr.entropy.prior import CodePrior
from vqasr.stream.header import HEADER_BYTES
from vqasr.stream.reader import StreamReader


def drop_chunks(
    data: bytes, probability: float, rng: np.random.Generator, prior: CodePrior | None = None
) -> bytes:
    """A stream without the chunks that were lost; its header always arrives.

    Args:
        data: a whole stream.
        probability: of losing each chunk, independently.
        rng: decides.
        prior: the one that wrote the stream; None takes a bundled one where one is needed.

    Returns:
        A stream of a single chunk is lost as a whole, and leaves the header of a longer one.

    Raises:
        StreamError: the stream is damaged already.
    """
    reader = StreamReader(io.BytesIO(data), prior=prior)
    chunks = [chunk for _, chunk in reader.intact_chunks()]
    reader.raise_problem()
    if reader.header.single:
        # Without its content it is no stream: what is left is what would be of a longer one.
        kept = rng.random() >= probability
        return data if kept else replace(reader.header, single=False).to_bytes()
    parts, position = [data[:HEADER_BYTES]], HEADER_BYTES
    for chunk in chunks:
        end = position + chunk.total_bytes
        if rng.random() >= probability:
            parts.append(data[position:end])
        position = end
    return b"".join(parts)
