"""Losing chunks of a stream, as networks do."""

import io

import numpy as np

from vqasr.code_prior import CodePrior
from vqasr.errors import StreamError
from vqasr.stream import StreamReader
from vqasr.stream_header import SINGLE_VERSION


def drop_chunks(
    data: bytes, probability: float, rng: np.random.Generator, prior: CodePrior | None = None
) -> bytes:
    """A stream without the chunks that were lost; its header always arrives.

    Args:
        data: a whole stream.
        probability: of losing each chunk, independently.
        rng: decides.
        prior: the one that wrote the stream; None takes a bundled one where one is needed.

    Raises:
        StreamError: the stream is damaged already, or of format 1.
    """
    reader = StreamReader(io.BytesIO(data), prior=prior)
    if reader.header.version == 1:
        raise StreamError("chunks of a stream of format 1 cannot be lost one by one.")
    position = reader.header.size_bytes
    kept = [data[:position]]
    for _, chunk in reader.intact_chunks():
        end = position + chunk.total_bytes
        if reader.header.version == SINGLE_VERSION:
            end = len(data)
        if rng.random() >= probability:
            kept.append(data[position:end])
        position = end
    reader.raise_problem()
    return b"".join(kept)
