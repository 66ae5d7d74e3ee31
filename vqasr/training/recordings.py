"""Recordings decoded once into one tensor, in the memory of the device that trains."""

import dataclasses
import logging
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

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
    """16-bit samples of many recordings, one behind the other."""

    pcm: Tensor  # (samples,) int16 at 16 kHz, on the device
    starts: np.ndarray  # (recordings,) int64, in samples
    lengths: np.ndarray  # (recordings,) int64, in samples
    texts: list[str]  # transcripts; empty where there is none or the recording was cropped
    cropped: np.ndarray  # (recordings,) bool

    def __len__(self) -> int:
        return len(self.starts)

    def to(self, device: torch.device) -> "Recordings":
        """Return the same recordings with their samples on a device.

        Raises:
            TrainingError: they do not fit into its memory.
        """
        return dataclasses.replace(self, pcm=_moved(self.pcm, device))

    def samples(self, i: int) -> np.ndarray:
        """Return one recording, (samples,) float32."""
        start, length = int(self.starts[i]), int(self.lengths[i])
        return self.pcm[start : start + length].cpu().numpy().astype(np.float32) / PCM_SCALE

    def select(self, rows: list[int]) -> "Recordings":
        """Return some of the recordings, which share the samples."""
        texts = [self.texts[i] for i in rows]
        return Recordings(
            self.pcm, self.starts[rows], self.lengths[rows], texts, self.cropped[rows]
        )

    def spread(self, count: int) -> "Recordings":
        """Return `count` recordings with transcripts, spread over all lengths.

        Raises:
            TrainingError: no recording has a transcript.
        """
        usable = [i for i, text in enumerate(self.texts) if text]
        if not usable:
            raise TrainingError(
                "[data] dev holds no transcripts to measure the training with. Name data whose "
                "text_column is filled."
            )
        usable.sort(key=lambda i: self.lengths[i])
        return self.select(usable[:: max(1, len(usable) // count)][:count])

    @classmethod
    def from_rows(
        cls,
        rows: Dataset,
        device: torch.device,
        longest_s: float,
        text_column: str,
        show_progress: bool = True,
    ) -> "Recordings":
        """Decode all rows; leave out rows that cannot be decoded.

        Recordings that are longer than `longest_s` are cropped and lose their transcript.

        Raises:
            TrainingError: nothing can be decoded, or it does not fit into the device's memory.
        """
        texts = list(rows[text_column]) if text_column in rows.column_names else [""] * len(rows)
        limit = round(longest_s * SAMPLING_RATE_HZ)
        clips, kept, cropped = [], [], []
        for i, samples in enumerate(_decoded(rows, show_progress)):
            if isinstance(samples, AudioError):
                logger.warning("row %d is left out: %s", i, samples)
                continue
            cropped.append(len(samples) > limit)
            kept.append("" if cropped[-1] else (texts[i] or "").strip())
            clips.append(samples[:limit])
        return cls.from_clips(clips, device, kept, np.array(cropped, bool))

    @classmethod
    def from_clips(
        cls,
        clips: list[np.ndarray],
        device: torch.device,
        texts: list[str] | None = None,
        cropped: np.ndarray | None = None,
    ) -> "Recordings":
        """Join (samples,) float32 or int16 clips; raises as `from_rows`."""
        if not clips:
            raise TrainingError("no recording can be decoded. The log names the reasons.")
        lengths = np.array([len(clip) for clip in clips], np.int64)
        pcm = _moved(torch.from_numpy(np.concatenate([_pcm(clip) for clip in clips])), device)
        return cls(
            pcm, np.cumsum(lengths) - lengths, lengths, texts or [""] * len(clips),
            np.zeros(len(clips), bool) if cropped is None else cropped,
        )  # fmt: skip


def _moved(pcm: Tensor, device: torch.device) -> Tensor:
    try:
        return pcm.to(device)
    except (MemoryError, torch.OutOfMemoryError) as error:
        hours = len(pcm) / SAMPLING_RATE_HZ / 3600
        raise TrainingError(
            f"{hours:.1f} h of audio need {2 * len(pcm) / 1e9:.1f} GB on {device}, which are not "
            "free. Train on less data, on windows of it ([data] window_shards), or on a larger "
            "machine."
        ) from error


def to_device(values: np.ndarray, device: torch.device) -> Tensor:
    """Copy an array to the device without waiting for it; float64 becomes float32."""
    kind = np.float32 if values.dtype == np.float64 else values.dtype
    return torch.from_numpy(values.astype(kind, copy=False)).to(device, non_blocking=True)


def _decoded(rows: Dataset, show_progress: bool) -> Iterable[np.ndarray | AudioError]:
    """Decode all rows to (samples,) int16 in threads."""

    def decode(row: dict[str, Any]) -> np.ndarray | AudioError:
        try:
            return _pcm(row_audio(row))
        except AudioError as error:
            return error

    rows = rows.select_columns([c for c in ("audio", "sampling_rate") if c in rows.column_names])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        decoded = pool.map(decode, rows)
        yield from track(decoded, "decoding", total=len(rows), disable=not show_progress)


def _pcm(samples: np.ndarray) -> np.ndarray:
    if samples.dtype == np.int16:
        return samples
    return np.clip(samples * PCM_SCALE, -PCM_SCALE, PCM_SCALE - 1).astype(np.int16)
