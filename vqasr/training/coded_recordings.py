"""Recordings, their codes and their pitch side by side, cut into crops on the training device."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import track
from safetensors.numpy import load_file, save
from torch import Tensor

from vqasr.audio.pitch import fill_pitch, track_pitch
from vqasr.codec.modeling import VQCodecModel
from vqasr.errors import TrainingError
from vqasr.files import replace_file
from vqasr.grid import HOP_LENGTH, HOPS_PER_FRAME, frames_of
from vqasr.training.batches import Batches
from vqasr.training.prior_data import training_codes
from vqasr.training.recordings import PCM_SCALE, Recordings, to_device


@dataclass
class Crops:
    """Pieces of recordings."""

    codes: Tensor  # (num_quantizers, crops, frames) int64
    samples: Tensor  # (crops, 640 x frames) float32
    pitch_hz: Tensor  # (crops, 4 x frames) float32, of each 10 ms; without gaps
    voiced: Tensor  # (crops, 4 x frames) bool


@dataclass
class CodedRecordings:
    """Samples, codes and pitch of many recordings, one behind the other, on the device."""

    pcm: Tensor  # (640 x frames,) int16 at 16 kHz; zeros fill up the last frame of a recording
    codes: Tensor  # (num_quantizers, frames) int64
    pitch_hz: Tensor  # (4 x frames,) float32; without gaps
    voiced: Tensor  # (4 x frames,) bool
    starts: np.ndarray  # (recordings,) int64, in frames
    frames: np.ndarray  # (recordings,) int64

    @classmethod
    def encode(
        cls, recordings: Recordings, codec: VQCodecModel, batches: Batches, seed: int, folder: Path
    ) -> "CodedRecordings":
        """Encode recordings and track their pitch once; both are kept in the folder.

        Args:
            recordings: those of the batches.
            codec: trained, on the CPU.
            batches: in whose order the recordings are kept.
            seed: of the depths of frames, see `training_codes`.
            folder: for the codes and the pitch.
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
        device, path = batches.device, folder / f"pitch-{batches.fingerprint()[:12]}.safetensors"
        if not path.is_file():
            tracks = []
            for start, stop in track([*zip(starts, starts + frames, strict=True)], "pitch"):
                clip = pcm[int(start) * HOP_LENGTH : int(stop) * HOP_LENGTH].numpy()
                tracks.append(track_pitch(clip / np.float32(PCM_SCALE)))
            replace_file(path, save({"pitch_hz": np.concatenate(tracks).astype(np.float32)}))
        pitch_hz = load_file(path)["pitch_hz"]
        borders = HOPS_PER_FRAME * starts[1:]
        filled = np.concatenate([fill_pitch(clip) for clip in np.split(pitch_hz, borders)])
        return cls(
            pcm.to(device), torch.from_numpy(codes).to(device), torch.from_numpy(filled).to(device),
            torch.from_numpy(pitch_hz > 0).to(device), starts, frames,
        )  # fmt: skip

    def crops(self, rng: np.random.Generator, count: int, frames: int) -> Crops:
        """Draw crops of a number of frames.

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
        return self._cut(to_device(start, self.codes.device), frames)

    def _cut(self, start: Tensor, frames: int) -> Crops:
        def grid(length: int) -> Tensor:
            own = torch.arange(frames * length, device=start.device)
            return start[:, None] * length + own

        hops = grid(HOPS_PER_FRAME)
        return Crops(
            self.codes[:, grid(1)], self.pcm[grid(HOP_LENGTH)].float() / PCM_SCALE,
            self.pitch_hz[hops], self.voiced[hops],
        )  # fmt: skip

    def clips(self) -> Iterator[Crops]:
        """Yield each recording as one crop."""
        for start, frames in zip(self.starts.tolist(), self.frames.tolist(), strict=True):
            yield self._cut(torch.tensor([start], device=self.codes.device), frames)
