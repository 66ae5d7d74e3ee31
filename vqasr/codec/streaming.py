"""Encoding while the audio comes in."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vqasr.audio.files import check_samples
from vqasr.codec.convolution import StreamState
from vqasr.entropy.prior import CodePrior
from vqasr.errors import AudioError
from vqasr.rate.choice import CodeChoice

if TYPE_CHECKING:
    from vqasr.codec.modeling import VQCodecModel


class StreamingEncoder:
    """Codes of one clip, chunk by chunk; made by `VQCodecModel.streaming`.

    A frame appears as soon as its own 40 ms and the codec's look-ahead have been heard. The codes
    are those of `VQCodecModel.encode` on the whole clip, for any chunking.

    Example:
        >>> encoder = codec.streaming(num_quantizers=4)
        >>> codes = [encoder.push(chunk) for chunk in chunks] + [encoder.finish()]
    """

    def __init__(
        self,
        codec: "VQCodecModel",
        num_quantizers: int | None = None,
        bit_price: float = 0.0,
        prior: CodePrior | None = None,
    ):
        self.num_quantizers = codec.check_num_quantizers(num_quantizers)
        self._choice = CodeChoice(codec, self.num_quantizers, bit_price, prior)
        self.samples = 0
        self._codec = codec
        self._state = StreamState()
        self._finished = False

    def push(self, chunk: np.ndarray | Tensor) -> Tensor:
        """Hear more.

        Args:
            chunk: (samples,) float at 16 kHz, any number of them.

        Returns:
            (num_quantizers, frames) int64, the frames that became complete (perhaps none).

        Raises:
            AudioError: NaN or several channels, or the clip was finished; nothing is lost then,
                the clip can go on.
        """
        if self._finished:
            raise AudioError("this clip is finished; start a new one with codec.streaming().")
        if len(chunk):
            check_samples(np.asarray(chunk), "chunk")
        self.samples += len(chunk)
        return self._step(torch.as_tensor(chunk, dtype=torch.float32))

    def finish(self) -> Tensor:
        """End the clip: (num_quantizers, frames) int64, what was still waiting for look-ahead.

        All frames together are ceil(samples / hop_length).
        """
        if self._finished:
            raise AudioError("this clip is finished already.")
        self._finished = True
        config = self._codec.config
        wanted = config.frames(self.samples) * config.hop_length + config.lookahead_samples
        if self.samples == 0:
            return torch.zeros(self.num_quantizers, 0, dtype=torch.long)
        return self._step(torch.zeros(wanted - self.samples))

    @torch.no_grad()
    def _step(self, samples: Tensor) -> Tensor:
        latents = self._codec.encoder.step(samples[None].to(self._codec.device), self._state)
        return self._choice.choose(latents[0]).cpu()
