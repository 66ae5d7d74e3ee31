"""What a stream holds, once it has been read."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vqasr.errors import StreamError
from vqasr.stream.header import SAMPLING_RATE_HZ, StreamHeader

NO_FRAME = -1  # code of a frame that never was: padding of a batch
MISSING = -2  # code of a frame that was lost


@dataclass(frozen=True, eq=False)
class Stream:
    """One utterance's codes, int64 of shape (num_quantizers, frames), and its length in samples.

    Frames that were lost (only in what was recovered of a damaged stream) hold -2. start_frame is
    not 0 where only a later part was read.
    """

    header: StreamHeader
    codes: npt.NDArray[np.int64]
    samples: int
    start_frame: int = 0

    @property
    def frames(self) -> int:
        """Number of frames."""
        return int(self.codes.shape[1])

    @property
    def lost_frames(self) -> int:
        """Number of frames that were lost."""
        return int((self.codes[0] == MISSING).sum())

    @property
    def seconds(self) -> float:
        """Length of the audio in seconds."""
        return self.samples / SAMPLING_RATE_HZ

    @property
    def nominal_bits(self) -> int:
        """Bits of the codes alone at fixed width, without header, chunk fields and checksums."""
        return self.frames * self.header.num_quantizers * self.header.bits_per_code


def frame_range(
    header: StreamHeader, frames: int, start_s: float, end_s: float | None
) -> tuple[int, int]:
    """First and last (exclusive) of the frames that [start_s, end_s) seconds touch.

    Raises:
        StreamError: not 0 <= start_s <= end_s.
    """
    if not 0 <= start_s <= (start_s if end_s is None else end_s) or math.isinf(start_s):
        raise StreamError(f"start_s={start_s}, end_s={end_s}: 0 <= start_s <= end_s is needed.")
    last = frames
    if end_s is not None and not math.isinf(end_s):
        last = min(frames, -(-round(end_s * SAMPLING_RATE_HZ) // header.hop_length))
    return min(round(start_s * SAMPLING_RATE_HZ) // header.hop_length, last), last


def part_samples(header: StreamHeader, samples: int, first: int, last: int) -> int:
    """Samples in frames [first, last) of audio that has `samples` of them."""
    return max(0, min(samples, last * header.hop_length) - first * header.hop_length)


def cut_stream(stream: Stream, start_s: float, end_s: float | None) -> Stream:
    """What [start_s, end_s) seconds touch; errors as `frame_range`."""
    first, last = frame_range(stream.header, stream.frames, start_s, end_s)
    samples = part_samples(stream.header, stream.samples, first, last)
    return Stream(stream.header, stream.codes[:, first:last], samples, first)
