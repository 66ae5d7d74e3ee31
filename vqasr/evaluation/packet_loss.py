"""Simulate packet loss: drop chunks of a stream."""

import io
from dataclasses import dataclass, replace

import numpy as np

from vqasr.entropy.prior import CodePrior
from vqasr.errors import VqasrError
from vqasr.stream.header import HEADER_BYTES
from vqasr.stream.reader import StreamReader

SEPARATOR = "x"  # in "10x4"
COPIES = "+"  # in "10+1"


@dataclass(frozen=True)
class ChunkLoss:
    """How chunks are lost: independently, or in bursts of the model of Gilbert (1960).

    Attributes:
        percent: of the chunks.
        burst: mean number of neighbouring chunks that are lost together; None for independent
            losses.
        copies: of each chunk in the datagrams behind it, see `vqasr.stream.packets`; it is lost if
            all of them are.
    """

    percent: float
    burst: float | None = None
    copies: int = 0

    @classmethod
    def parse(cls, text: str) -> "ChunkLoss":
        """Read "10" (independent losses), "10x4" (bursts of four on average), "10+1" (a copy).

        Raises:
            VqasrError: it is neither, or out of range.
        """
        line, copied, copies = text.strip().partition(COPIES)
        percent, bursts, length = line.partition(SEPARATOR)
        try:
            loss = cls(
                float(percent.rstrip("% ")), float(length) if bursts else None,
                int(copies) if copied else 0,
            )  # fmt: skip
        except ValueError:
            loss = cls(-1.0)
        chance = loss.percent / 100.0
        if (
            not 0.0 <= chance <= 1.0
            or loss.copies < 0
            or (loss.burst is not None and not 1.0 <= loss.burst < 1e6)
        ):
            raise VqasrError(
                f"a loss of {text!r}: use a percentage of the chunks from 0 to 100, as 10, or with "
                "the mean length of bursts, at least 1 chunk, as 10x4; a number of copies may "
                "follow, as in 10+1."
            )
        if loss.burst is not None and chance * (loss.burst + 1.0) > loss.burst:
            raise VqasrError(f"a loss of {text!r}: such a share needs longer bursts.")
        return loss

    def __str__(self) -> str:
        bursts = "" if self.burst is None else f"{SEPARATOR}{self.burst:g}"
        return f"{self.percent:g}{bursts}" + (f"{COPIES}{self.copies}" if self.copies else "")

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draw (count,) bool, True for chunks that are lost."""
        lines = self._lines(count + self.copies, rng)
        lost = lines[:count]
        for behind in range(1, self.copies + 1):
            lost = lost & lines[behind : behind + count]
        return lost

    def _lines(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draw (count,) bool, True for datagrams that are lost."""
        chance, draws = self.percent / 100.0, rng.random(count)
        if self.burst is None or chance in (0.0, 1.0):
            lost: np.ndarray = draws < chance
            return lost
        end = 1.0 / self.burst  # probability that a burst ends with a chunk
        begin = end * chance / (1.0 - chance)
        lost = np.empty(count, bool)
        state = False
        for i, draw in enumerate(draws):
            state = bool(draw < (chance if i == 0 else 1.0 - end if state else begin))
            lost[i] = state
        return lost


def drop_chunks(
    data: bytes, loss: ChunkLoss, rng: np.random.Generator, prior: CodePrior | None = None
) -> bytes:
    """Drop chunks of a stream at random; the header always remains.

    Args:
        data: a whole stream.
        loss: which chunks.
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
    lost = loss.draw(len(chunks), rng)
    if reader.header.single:
        # Without its chunk a short stream is invalid, so the header of the long format remains.
        return replace(reader.header, single=False).to_bytes() if lost.all() else data
    parts, position = [data[:HEADER_BYTES]], HEADER_BYTES
    for chunk, gone in zip(chunks, lost, strict=True):
        end = position + chunk.total_bytes
        if not gone:
            parts.append(data[position:end])
        position = end
    return b"".join(parts)
