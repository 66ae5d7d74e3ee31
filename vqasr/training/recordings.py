"""Recordings decoded once into one tensor, in the memory of the device that trains."""

import logging
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset
from rich.progress import track
from torch import Tensor

from vqasr.data.speech import row_audio
from vqasr.errors import AudioError, TrainingError
from vqasr.grid import SAMPLING_RATE_HZ

PCM_SCALE = 32768.0

logger = logging.getLogger("vqasr.train")


@dataclass
class Recordings:
    """16-bit samples of many recordings, one behind the other.

    Attributes:
        pcm: (samples,) int16 at 16 kHz, on the device.
        starts, lengths: (recordings,) int64, in samples.
        texts: transcripts; empty where there is none or the recording was cropped.
        cropped: (recordings,) bool.
    """

    pcm: Tensor
    starts: np.ndarray
    lengths: np.ndarray
    texts: list[str]
    cropped: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def seconds(self) -> float:
        return float(self.lengths.sum()) / SAMPLING_RATE_HZ

    def samples(self, i: int) -> np.ndarray:
        """(samples,) float32 of one recording."""
        start, length = int(self.starts[i]), int(self.lengths[i])
        return self.pcm[start : start + length].cpu().numpy().astype(np.float32) / PCM_SCALE

    def select(self, rows: list[int]) -> "Recordings":
        """Some of the recordings; the samples are shared."""
        return Recordings(
            self.pcm, self.starts[rows], self.lengths[rows], [self.texts[i] for i in rows],
            self.cropped[rows],
        )  # fmt: skip

    @classmethod
    def of_rows(
        cls, rows: Dataset, device: torch.device, longest_s: float, text_column: str = ""
    ) -> "Recordings":
        """Decode all rows with an audio column; rows that cannot be decoded are left out.

        Raises:
            TrainingError: nothing can be decoded, or it does not fit into the device's memory.
        """
        texts = list(rows[text_column]) if text_column in rows.column_names else [""] * len(rows)
        limit = round(longest_s * SAMPLING_RATE_HZ)
        pieces, kept, cropped = [], [], []
        for i, samples in enumerate(_decoded(rows)):
            if isinstance(samples, AudioError):
                logger.warning("row %d is left out: %s", i, samples)
                continue
            cropped.append(len(samples) > limit)
            kept.append("" if cropped[-1] else (texts[i] or "").strip())
            pieces.append(samples[:limit])
        return cls.of_clips(pieces, device, kept, np.array(cropped, bool))

    @classmethod
    def of_clips(
        cls,
        clips: list[np.ndarray],
        device: torch.device,
        texts: list[str] | None = None,
        cropped: np.ndarray | None = None,
    ) -> "Recordings":
        """Put (samples,) float32 or int16 clips one behind the other; errors as `of_rows`."""
        if not clips:
            raise TrainingError("there is no recording that can be decoded.")
        lengths = np.array([len(clip) for clip in clips], np.int64)
        try:
            pcm = torch.from_numpy(np.concatenate([_pcm(clip) for clip in clips])).to(device)
        except (MemoryError, torch.OutOfMemoryError) as error:
            hours = lengths.sum() / SAMPLING_RATE_HZ / 3600
            raise TrainingError(
                f"{hours:.1f} h of audio need {2 * lengths.sum() / 1e9:.1f} GB on {device}, which "
                "are not free. Train on less data or on a larger machine."
            ) from error
        return cls(
            pcm,
            np.cumsum(lengths) - lengths,
            lengths,
            [""] * len(clips) if texts is None else texts,
            np.zeros(len(clips), bool) if cropped is None else cropped,
        )


def _decoded(rows: Dataset) -> Iterable[np.ndarray | AudioError]:
    """Audio of all rows, (samples,) int16 each; libsndfile decodes in threads."""

    def decode(audio: dict) -> np.ndarray | AudioError:
        try:
            return _pcm(row_audio({"audio": audio}))
        except AudioError as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from track(pool.map(decode, rows["audio"]), "decoding", total=len(rows))


def _pcm(samples: np.ndarray) -> np.ndarray:
    if samples.dtype == np.int16:
        return samples
    return np.clip(samples * PCM_SCALE, -PCM_SCALE, PCM_SCALE - 1).astype(np.int16)
