"""Live encoding of audio to latents."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vqasr.audio.arrays import as_float, to_mono
from vqasr.codec.convolution import StreamState
from vqasr.errors import AudioError

if TYPE_CHECKING:
    from vqasr.codec.modeling import VQCodecModel


class LatentEncoder:
    """Encode one clip chunk by chunk to the latents of `VQCodecModel.encode_latents`.

    A frame is complete as soon as its own 40 ms and the codec's look-ahead have come in.

    Args:
        codec: in evaluation mode.
    """

    def __init__(self, codec: "VQCodecModel"):
        self.samples = 0
        self._codec = codec
        self._state = StreamState()
        self._finished = False

    def push(self, chunk: np.ndarray | Tensor) -> Tensor:
        """Encode the next audio.

        Args:
            chunk: float at 16 kHz of any length, as `to_mono` takes it; or empty.

        Returns:
            (frames, latent_dim) float32, the frames that became complete (perhaps none).

        Raises:
            AudioError: see `to_mono` (other chunks may follow); or the clip is finished.
        """
        if self._finished:
            raise AudioError("this clip is finished; start a new encoder.")
        samples = as_float(chunk, "chunk")
        samples = to_mono(samples, "chunk") if samples.size else np.zeros(0, np.float32)
        self.samples += len(samples)
        return self._step(torch.from_numpy(samples))

    def finish(self) -> Tensor:
        """End the clip; return the (frames, latent_dim) that were waiting for look-ahead.

        All frames together are ceil(samples / hop_length).
        """
        if self._finished:
            raise AudioError("this clip is finished; start a new encoder.")
        self._finished = True
        config = self._codec.config
        if self.samples == 0:
            return torch.zeros(0, config.latent_dim)
        return self._step(torch.zeros(config.padded_samples(self.samples) - self.samples))

    @torch.no_grad()
    def _step(self, samples: Tensor) -> Tensor:
        codec = self._codec
        with codec.exact():
            return codec.encoder(samples[None].to(codec.device), self._state)[0].cpu()
