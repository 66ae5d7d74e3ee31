"""Recordings and their codes side by side, cut into crops on the device that trains."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vqasr.codec.modeling import VQCodecModel
from vqasr.errors import TrainingError
from vqasr.grid import HOP_LENGTH, frames_of
from vqasr.training.batches import Batches
from vqasr.training.prior_data import training_codes
from vqasr.training.recordings import PCM_SCALE, Recordings, to_device


@dataclass
class CodedRecordings:
    """Samples and codes of many recordings, one behind the other, on the device."""

    pcm: Tensor  # (640 x frames,) int16 at 16 kHz; zeros fill up the last frame of a recording
    codes: Tensor  # (num_quantizers, frames) int64
    starts: np.ndarray  # (recordings,) int64, in frames
    frames: np.ndarray  # (recordings,) int64

    @classmethod
    def encode(
        cls, recordings: Recordings, codec: VQCodecModel, batches: Batches, seed: int, folder: Path
    ) -> "CodedRecordings":
        """Encode recordings once; their codes are kept in the folder.

        Args:
            recordings: those of the batches.
            codec: trained, on the CPU.
            batches: in whose order the recordings are kept.
            seed: of the depths of frames, see `training_codes`.
            folder: for the codes.
        """
        codes = training_codes(codec, batches, 1, seed, folder)
        order, lengths = batches.pass_order(), batches.pass_lengths()
        frames = np.array([frames_of(n) for n in lengths.tolist()])
        if frames.sum() != codes.shape[1]:
            raise TrainingError(
                f"the recordings have {frames.sum()} frames, but {codes.shape[1]} were encoded. "
                f"Delete the codes in {folder}: they are other recordings'."
            )
        pcm = torch.zeros(int(frames.sum()) * HOP_LENGTH, dtype=torch.int16)
        starts = np.cumsum(frames) - frames
        for row, start, length in zip(order, starts, lengths.tolist(), strict=True):
            begin = int(recordings.starts[row])
            at = int(start) * HOP_LENGTH
            pcm[at : at + length] = recordings.pcm[begin : begin + length].cpu()
        device = batches.device
        return cls(pcm.to(device), torch.from_numpy(codes).to(device), starts, frames)

    def crops(self, rng: np.random.Generator, count: int, frames: int) -> tuple[Tensor, Tensor]:
        """Draw codes (num_quantizers, count, frames) and their samples (count, 640 x frames).

        Raises:
            TrainingError: no recording is that long.
        """
        places = np.clip(self.frames - frames + 1, 0, None)
        if not places.sum():
            raise TrainingError(
                f"crop_frames = {frames}, but the longest recording has {self.frames.max()} frames "
                "of 40 ms. Use shorter crops."
            )
        clip = rng.choice(len(places), count, p=places / places.sum())
        start = self.starts[clip] + (rng.random(count) * places[clip]).astype(np.int64)
        start = to_device(start, self.codes.device)[:, None]
        grid = torch.arange(frames * HOP_LENGTH, device=self.codes.device)
        samples = self.pcm[start * HOP_LENGTH + grid].float() / PCM_SCALE
        return self.codes[:, start + grid[:frames]], samples

    def clips(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield codes (num_quantizers, 1, frames) and samples (1, 640 x frames) of each clip."""
        for start, frames in zip(self.starts.tolist(), self.frames.tolist(), strict=True):
            stop = start + frames
            pcm = self.pcm[start * HOP_LENGTH : stop * HOP_LENGTH]
            yield self.codes[:, None, start:stop], pcm[None].float() / PCM_SCALE
