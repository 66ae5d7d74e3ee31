"""What codes cost, counted in every way that people count it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from vqasr.entropy.prior import CodePrior
from vqasr.grid import SAMPLING_RATE_HZ, STOP
from vqasr.stream.chunk import LAST_BYTES, OVERHEAD_BYTES
from vqasr.stream.header import CHUNK_FRAMES, HEADER_BYTES, usual_chunk_frames
from vqasr.stream.single import SINGLE_OVERHEAD_BYTES

OVERHEAD_AT_CHUNK_S = (1, 5, 60)


@dataclass
class Rates:
    """Counts codes of one kind (codec, number of codebooks) and says their bits per second.

    Args:
        prior: None where the codes have none.
        chunk_frames: the prior begins anew with every chunk; None as `stream_to_bytes`.
        hop_length: samples per frame.
        bits_per_code: log2 of the codebooks' size.
        variable_depth: of the codec; code 0 then stops a frame.
    """

    prior: CodePrior | None
    chunk_frames: int | None
    hop_length: int
    bits_per_code: float
    variable_depth: bool = False
    samples: int = 0
    nominal_bits: float = 0.0
    prior_bits: float = 0.0
    coded_bits: int = 0
    _counts: list[npt.NDArray[np.int64]] = field(default_factory=list)
    _lengths: list[int] = field(default_factory=list)
    _by_speech: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros((2, 2)))

    def add(
        self,
        codes: npt.NDArray[np.int64],
        samples: int,
        stream_bytes: int,
        speech: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Count a clip.

        Args:
            codes: (n, frames).
            samples: its length at 16 kHz.
            stream_bytes: size of its whole stream.
            speech: (frames,) True where somebody speaks, to tell speech from pauses.
        """
        self.samples += samples
        self.nominal_bits += self.bits_per_code * self._codes_spent(codes)
        self.coded_bits += 8 * stream_bytes
        self._lengths.append(codes.shape[1])
        size = int(codes.max(initial=0)) + 1
        for j, row in enumerate(codes):
            if j == len(self._counts):
                self._counts.append(np.zeros(0, np.int64))
            counts = np.bincount(row, minlength=max(size, len(self._counts[j])))
            counts[: len(self._counts[j])] += self._counts[j]
            self._counts[j] = counts
        if self.prior is None:
            return
        frames = codes.shape[1]
        step = self.chunk_frames or usual_chunk_frames(frames)
        parts = np.split(codes, range(step, frames, step), axis=1)
        bits = np.concatenate([self.prior.bits(part).sum(axis=0) for part in parts])
        self.prior_bits += float(bits.sum())
        if speech is not None:
            for kind in (0, 1):
                chosen = speech[: len(bits)] == bool(kind)
                self._by_speech[kind] += bits[chosen].sum(), chosen.sum()

    def _codes_spent(self, codes: npt.NDArray[np.int64]) -> int:
        """A stop is a code like others; what follows it in its frame is none."""
        after_stops = (codes[1:-1] == STOP).sum() if self.variable_depth else 0
        return codes.size - int(after_stops)

    def summary(self) -> dict[str, float | None]:
        """nominal, order0, prior and coded bits per second, and prior_bps of speech and of pauses.

        nominal is at fixed width. order0 is the empirical entropy of each codebook over everything
        that was counted: too low where that is less than some 10,000 frames. prior is the
        cross-entropy.
        """
        per_second = SAMPLING_RATE_HZ / self.samples if self.samples else 0.0
        summary: dict[str, float | None] = {
            "nominal_bps": round(self.nominal_bits * per_second, 2),
            "order0_bps": round(sum(map(_entropy_bits, self._counts)) * per_second, 2),
            "prior_bps": None,
            "coded_bps": round(self.coded_bits * per_second, 2),
            "prior_bps_speech": None,
            "prior_bps_pauses": None,
        }
        if self.prior is not None:
            summary["prior_bps"] = round(self.prior_bits * per_second, 2)
            rate = SAMPLING_RATE_HZ / self.hop_length
            for name, (bits, frames) in zip(("pauses", "speech"), self._by_speech, strict=True):
                if frames:
                    summary[f"prior_bps_{name}"] = round(rate * bits / frames, 2)
        return summary

    def container_bps(self) -> dict[str, float]:
        """Bits per second of header, chunk fields and checksums at chunks of 1, 5 and 60 s."""
        rate = SAMPLING_RATE_HZ / self.hop_length
        result = {}
        for chunk_s in OVERHEAD_AT_CHUNK_S:
            frames = min(CHUNK_FRAMES, key=lambda f: abs(f - chunk_s * rate))
            size = sum(container_bytes(length, frames) for length in self._lengths)
            seconds = self.samples / SAMPLING_RATE_HZ
            result[f"{chunk_s} s"] = round(8 * size / seconds, 2) if seconds else 0.0
        return result


def container_bytes(frames: int, chunk_frames: int) -> int:
    """Bytes of a stream that are not codes: header, and every chunk's fields and checksum."""
    if frames < chunk_frames:
        return SINGLE_OVERHEAD_BYTES
    return HEADER_BYTES + LAST_BYTES + (frames // chunk_frames + 1) * OVERHEAD_BYTES


def _entropy_bits(counts: npt.NDArray[np.int64]) -> float:
    present = counts[counts > 0]
    return float((present * np.log2(present.sum() / present)).sum())
