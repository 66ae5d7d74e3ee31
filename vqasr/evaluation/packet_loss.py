"""Losing chunks of a stream, as networks do."""

import io
from dataclasses import replace

import numpy as np

from vqasr.entropy.prior import CodePrior
from vqasr.errors import StreamError
from vqasr.stream.header import FORMAT_VERSION, HEADER_BYTES, SINGLE_VERSION
from vqasr.stream.whole import StreamReader


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
        A stream of format 3 is lost as a whole, and leaves a header of format 2.

    Raises:
        StreamError: the stream is damaged already, or of format 1.
    """
    reader = StreamReader(io.BytesIO(data), prior=prior)
    if reader.header.version == 1:
        raise StreamError("chunks of a stream of format 1 cannot be lost one by one.")
    chunks = [chunk for _, chunk in reader.intact_chunks()]
    reader.raise_problem()
    if reader.header.version == SINGLE_VERSION:
        # Without its content it is no stream: what is left is what would be of a longer one.
        kept = rng.random() >= probability
        return data if kept else replace(reader.header, version=FORMAT_VERSION).to_bytes()
    parts, position = [data[:HEADER_BYTES]], HEADER_BYTES
    for chunk in chunks:
        end = position + chunk.total_bytes
        if rng.random() >= probability:
            parts.append(data[position:end])
        position = end
    return b"".join(parts)
