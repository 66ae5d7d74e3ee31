"""Bit rates of codes: nominal, order-0 entropy, under the prior, coded, and of the container."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from vqasr.entropy.prior import CodePrior
from vqasr.grid import SAMPLING_RATE_HZ, STOP
from vqasr.stream.chunk import END_BYTES, OVERHEAD_BYTES, SINGLE_OVERHEAD_BYTES
from vqasr.stream.header import CHUNK_FRAMES, HEADER_BYTES, usual_chunk_frames

OVERHEAD_AT_CHUNK_S = (1, 5, 60)


@dataclass
class Rates:
    """Measure the bit rates of clips of one codec and number of codebooks.

    Args:
        prior: None for codes without one.
        chunk_frames: the prior restarts with every chunk; None for `usual_chunk_frames`.
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
    _coded_bits: int = 0
    _prior_bits: float = 0.0
    _codes: list[npt.NDArray[np.int64]] = field(default_factory=list)
    # (pauses, speech) x (bits, frames)
    _by_speech: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros((2, 2)))

    def add(
        self,
        codes: npt.NDArray[np.int64],
        samples: int,
        stream_bytes: int,
        speech: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Add a clip.

        Args:
            codes: (n, frames).
            samples: its length at 16 kHz.
            stream_bytes: size of its whole stream.
            speech: (frames,) True in speech, to tell it from pauses.
        """
        self.samples += samples
        self._coded_bits += 8 * stream_bytes
        self._codes.append(codes)
        if self.prior is None:
            return
        frames = codes.shape[1]
        step = self.chunk_frames or usual_chunk_frames(frames)
        chunks = np.split(codes, range(step, frames, step), axis=1)
        bits = np.concatenate([self.prior.bits(chunk).sum(axis=0) for chunk in chunks])
        self._prior_bits += float(bits.sum())
        if speech is not None:
            for kind, chosen in enumerate((~speech[:frames], speech[:frames])):
                self._by_speech[kind] += bits[chosen].sum(), chosen.sum()

    def summary(self) -> dict[str, float | None]:
        """Return nominal, order-0, prior and coded bits per second, the prior's by speech as well.

        nominal is at fixed width. order0 is the empirical entropy of each codebook over all clips,
        too low for less than some 10,000 frames. prior is the cross-entropy.
        """
        per_second = SAMPLING_RATE_HZ / self.samples if self.samples else 0.0
        spent = sum(map(self._codes_spent, self._codes))
        order0_bits = sum(map(_entropy_bits, zip(*self._codes, strict=True)))
        summary: dict[str, float | None] = {
            "nominal_bps": round(self.bits_per_code * spent * per_second, 2),
            "order0_bps": round(order0_bits * per_second, 2),
            "prior_bps": None,
            "coded_bps": round(self._coded_bits * per_second, 2),
            "prior_bps_speech": None,
            "prior_bps_pauses": None,
        }
        if self.prior is not None:
            summary["prior_bps"] = round(self._prior_bits * per_second, 2)
            rate = SAMPLING_RATE_HZ / self.hop_length
            for name, (bits, frames) in zip(("pauses", "speech"), self._by_speech, strict=True):
                if frames:
                    summary[f"prior_bps_{name}"] = round(rate * bits / frames, 2)
        return summary

    def container_bps(self) -> dict[str, float]:
        """Return bits per second of header, chunk fields and checksums at 1, 5 and 60 s a chunk."""
        rate = SAMPLING_RATE_HZ / self.hop_length
        seconds = self.samples / SAMPLING_RATE_HZ
        result = {}
        for chunk_s in OVERHEAD_AT_CHUNK_S:
            frames = min(CHUNK_FRAMES, key=lambda f: abs(f - chunk_s * rate))
            size = sum(container_bytes(codes.shape[1], frames) for codes in self._codes)
            result[f"{chunk_s} s"] = round(8 * size / seconds, 2) if seconds else 0.0
        return result

    def _codes_spent(self, codes: npt.NDArray[np.int64]) -> int:
        """Codes that have to be sent: a stop is one, the codes after it in its frame are not."""
        after_stops = (codes[1:-1] == STOP).sum() if self.variable_depth else 0
        return codes.size - int(after_stops)


def container_bytes(frames: int, chunk_frames: int) -> int:
    """Return the bytes of a stream besides its codes: header, chunk fields and checksums."""
    if frames < chunk_frames:
        return SINGLE_OVERHEAD_BYTES
    return HEADER_BYTES + END_BYTES + (frames // chunk_frames + 1) * OVERHEAD_BYTES


def _entropy_bits(rows: tuple[npt.NDArray[np.int64], ...]) -> float:
    """Bits of all codes of one codebook, (frames,) of each clip, at their empirical entropy."""
    counts = np.unique(np.concatenate(rows), return_counts=True)[1]
    return float((counts * np.log2(counts.sum() / counts)).sum())
