"""Live encoding of audio to latents."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vqasr.audio.files import check_samples
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
            chunk: (samples,) float at 16 kHz, of any length.

        Returns:
            (frames, latent_dim) float32, the frames that became complete (perhaps none).

        Raises:
            AudioError: NaN or several channels (other chunks may follow), or the clip is finished.
        """
        if self._finished:
            raise AudioError("this clip is finished; start a new encoder.")
        if len(chunk):
            check_samples(np.asarray(chunk), "chunk")
        self.samples += len(chunk)
        return self._step(torch.as_tensor(chunk, dtype=torch.float32))

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
        return codec.encoder(samples[None].to(codec.device), self._state)[0].cpu()
