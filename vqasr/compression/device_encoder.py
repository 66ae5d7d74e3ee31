"""Encode many clips together on a GPU, whose codes have to be those of the CPU.

The CPU defines the codes. Another device adds in another order, so that a latent may fall on the
other side of a border between two codes. Such near-ties are counted before the first clip is
encoded; anything else is refused.
"""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vqasr.codec.modeling import VQCodecModel
from vqasr.codec.quantizer import ResidualVQ
from vqasr.compression.choice import CodeChoice
from vqasr.compression.rates import OperatingPoint
from vqasr.errors import CodecError
from vqasr.grid import SAMPLING_RATE_HZ, frames_of

BATCH_S = 240.0  # of audio, padding included
# Two codes are tied if their squared distances differ by at most this, relative to the latent's.
NEAR = 1e-3
# At most this share of the frames of the check may have a near-tie.
MOST_TIES = 1e-2


@dataclass(frozen=True)
class DeviceCheck:
    """Comparison of a device's codes with the CPU's.

    Attributes:
        frames: that were compared.
        ties: frames with other codes, each of which is a near-tie.
        largest: the largest relative difference of squared distances among them.
    """

    frames: int
    ties: int
    largest: float


class DeviceEncoder:
    """Encode clips in batches of similar length on a device.

    Args:
        codec: in evaluation mode, on the CPU, where codes are chosen.
        device: such as "cuda".
        point: the rate.

    Raises:
        CodecError: there is no such device.
    """

    def __init__(self, codec: VQCodecModel, device: str, point: OperatingPoint):
        self._codec, self._point = codec, point
        try:
            self._device = torch.device(device)
            self._encoder = copy.deepcopy(codec.encoder).to(self._device)
        except (RuntimeError, AssertionError) as error:
            raise CodecError(f"device {device!r} cannot be used ({error}). Use cpu.") from error

    def __call__(self, clips: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Encode (samples,) float32 clips at 16 kHz to codes (num_quantizers, frames) int64."""
        return [self._choose(latents) for latents in self.latents(clips)]

    def _choose(self, latents: Tensor) -> np.ndarray:
        point = self._point
        choice = CodeChoice(self._codec, point.num_quantizers, point.bit_price)
        return choice.choose(latents).numpy()

    @torch.no_grad()
    def latents(self, clips: Sequence[np.ndarray]) -> list[Tensor]:
        """Encode clips to (frames, latent_dim) on the CPU each, in their order."""
        order = sorted(range(len(clips)), key=lambda i: len(clips[i]))
        done: dict[int, Tensor] = {}
        for batch in _batches(order, [len(clip) for clip in clips]):
            samples = torch.zeros(len(batch), len(clips[batch[-1]]))
            for row, i in zip(samples, batch, strict=True):
                row[: len(clips[i])] = torch.from_numpy(clips[i])
            with self._codec.exact(), full_float32():
                latents = self._encoder(samples.to(self._device)).cpu()
            for row, i in zip(latents, batch, strict=True):
                done[i] = row[: frames_of(len(clips[i]))]
        return [done[i] for i in range(len(clips))]

    def check(self, clips: Sequence[np.ndarray]) -> DeviceCheck:
        """Compare the nearest codes of some clips with the CPU's.

        Raises:
            CodecError: a code differs that is no near-tie, or too many are.
        """
        quantizer = self._codec.quantizer
        frames = ties = 0
        largest = 0.0
        for clip, latents in zip(clips, self.latents(clips), strict=True):
            with torch.no_grad():
                own = self._codec.encode_latents(torch.from_numpy(clip)[None])[0][0]
            gaps = _gaps(quantizer, own, latents)
            frames, ties = frames + len(own), ties + len(gaps)
            largest = max([largest, *gaps])
        if largest > NEAR or ties > MOST_TIES * frames:
            raise CodecError(
                f"device {self._device}: {ties} of {frames} frames have other codes than on the "
                f"CPU, with squared distances up to {largest:.1e} apart; allowed are {NEAR:.0e} "
                f"and {MOST_TIES:.0%} of the frames. Encode on the CPU."
            )
        return DeviceCheck(frames, ties, largest)


@contextmanager
def full_float32() -> Iterator[None]:
    """Compute without TensorFloat-32 within a `with` statement: it has 10 bits of mantissa."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def _batches(order: list[int], lengths: list[int]) -> list[list[int]]:
    """Cut an order of rising lengths into batches of at most BATCH_S with padding."""
    batches: list[list[int]] = []
    for i in order:
        if batches and lengths[i] * (len(batches[-1]) + 1) <= BATCH_S * SAMPLING_RATE_HZ:
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


def _gaps(quantizer: ResidualVQ, own: Tensor, other: Tensor) -> list[float]:
    """Return how far apart the first codes are that differ, for each frame with such codes."""
    n = quantizer.num_quantizers
    codes, others = (quantizer.encode(x[None], n)[0] for x in (own, other))
    gaps = []
    for frame in torch.nonzero((codes != others).any(0))[:, 0].tolist():
        level = int(torch.nonzero(codes[:, frame] != others[:, frame])[0])
        before = quantizer.decode(codes[None, :level, frame : frame + 1])[0, 0] if level else 0.0
        residual = own[frame] - before
        pair = quantizer.codebooks[level][torch.stack([codes[level, frame], others[level, frame]])]
        near, far = (pair - residual).square().sum(-1).tolist()
        gaps.append(abs(far - near) / max(float(own[frame].square().sum()), 1e-12))
    return gaps
