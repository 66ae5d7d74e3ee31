"""Excitation of the vocoder: the harmonics of a fundamental frequency, and noise.

A neural source-filter model (Wang, Takaki and Yamagishi 2019, arXiv 1904.12088) needs no network
that has learned to make periodic waves. Both parts run on from piece to piece.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor, nn

from vqasr.codec.convolution import StreamState
from vqasr.grid import FINE_HOP_LENGTH, SAMPLING_RATE_HZ

HIGHEST_HARMONIC_HZ = 7600.0
NOISE_HOPS = 997  # the noise repeats after 10 s


class Harmonics(nn.Module):
    """Cosines of all multiples of a fundamental frequency up to 7600 Hz, each of amplitude 1."""

    def forward(self, pitch_hz: Tensor, state: StreamState) -> Tensor:
        """Make (batch, 160 x hops) samples from (batch, hops) Hz, constant in each hop.

        The phase of the fundamental is continuous, also from piece to piece.
        """
        pitch = pitch_hz.double()
        step = pitch / SAMPLING_RATE_HZ  # periods a sample
        turned = torch.cumsum(step * FINE_HOP_LENGTH, 1)
        begin = state.values.get(self, pitch.new_zeros(len(pitch), 1))
        state.values[self] = (begin + turned[:, -1:]) % 1.0 if pitch.shape[1] else begin
        starts = begin + turned - step * FINE_HOP_LENGTH
        samples = torch.arange(FINE_HOP_LENGTH, device=pitch.device)
        phase = (starts[..., None] + step[..., None] * samples + 0.5) % 1.0 - 0.5
        count = (HIGHEST_HARMONIC_HZ / pitch).floor()[..., None]
        # The sum of the cosines in closed form (Dirichlet's kernel).
        divisor = 2 * torch.sin(math.pi * phase)
        kernel = torch.sin(math.pi * (2 * count + 1) * phase) / divisor - 0.5
        # The limit at phase 0, and where the quotient loses its digits.
        return torch.where(divisor.abs() < 1e-6, count, kernel).flatten(1).float()


@lru_cache(maxsize=8)
@torch.inference_mode(False)  # for trainings too
def _noise(device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(NOISE_HOPS, FINE_HOP_LENGTH, generator=generator).to(device)


class Noise(nn.Module):
    """White noise of variance 1, the same for every clip."""

    def forward(self, hops: int, like: Tensor, state: StreamState) -> Tensor:
        """Make the next (batch, 160 x hops) samples, with batch and device of another tensor."""
        noise = _noise(like.device)
        begin = state.values.get(self, torch.zeros((), dtype=torch.int64, device=like.device))
        state.values[self] = begin + hops
        places = (begin + torch.arange(hops, device=like.device)) % NOISE_HOPS
        return noise[places].flatten().expand(len(like), -1)


def minimum_phase(log_gain: Tensor) -> Tensor:
    """Return the phases (..., bins) in radians of the filter of least delay with these gains.

    From the cepstrum (Oppenheim and Schafer, Discrete-Time Signal Processing).
    """
    n_fft = 2 * (log_gain.shape[-1] - 1)
    cepstrum = torch.fft.irfft(log_gain, n_fft)
    fold = torch.zeros(n_fft, device=log_gain.device)
    fold[1 : n_fft // 2] = 1.0
    fold[n_fft // 2 + 1 :] = -1.0
    return torch.fft.rfft(cepstrum * fold).imag
