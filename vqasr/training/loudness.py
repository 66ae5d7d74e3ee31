"""How differently two waveforms sound, by the loudness of their Bark bands."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from vqasr.grid import SAMPLING_RATE_HZ

# Windows of 32 ms, each half of one apart, and bands of 0.43 Bark, as in ITU-T P.862.
WINDOW, HOP = 512, 256
BARK_PER_BAND = 0.43
# Speech is compared at 79 dB SPL, measured between 325 and 3250 Hz.
LEVEL_POWER = 10**7.9
LEVEL_BAND_HZ = (325.0, 3250.0)
# Below this mean square, a recording is not amplified to that level.
QUIET_POWER = 1e-6
# Peaks count more than their number: 6-norm of 20 windows, then the root mean square of these.
SYLLABLE_WINDOWS = 20


@lru_cache(maxsize=4)
def _tables(device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return window, weights of the level, band filters, thresholds and exponents."""
    hz = torch.arange(WINDOW // 2 + 1) * (SAMPLING_RATE_HZ / WINDOW)
    bark = 26.81 * hz / (1960 + hz) - 0.53  # Traunmueller
    band = ((bark + 0.53) / BARK_PER_BAND).round().long()
    # The band around 0 Hz does not count; empty ones neither.
    filters = F.one_hot(band).float()[:, 1:]
    filters = filters[:, filters.sum(0) > 0]
    khz = filters.T @ hz / filters.sum(0) / 1000
    threshold_db = 3.64 * khz**-0.8 - 6.5 * (-0.6 * (khz - 3.3) ** 2).exp() + 1e-3 * khz**4
    exponents = 0.23 * (6 / (filters.T @ bark / filters.sum(0) + 2)).clamp(1, 2) ** 0.15
    level = ((hz >= LEVEL_BAND_HZ[0]) & (hz <= LEVEL_BAND_HZ[1])).float()
    parts = (torch.hann_window(WINDOW), level, filters, 10 ** (threshold_db / 10), exponents)
    return tuple(part.to(device) for part in parts)  # type: ignore[return-value]


def _band_power(audio: Tensor) -> Tensor:
    """Compute the power (batch, windows, bands) of audio brought to one level."""
    window, level, filters, _, _ = _tables(audio.device)
    spectrum = torch.view_as_real(torch.fft.rfft(audio.unfold(-1, WINDOW, HOP) * window))
    power = spectrum.square().sum(-1) * (2 / (WINDOW * window.square().sum()))
    loud = (power @ level).mean(1).clamp_min(QUIET_POWER)
    return (power @ filters) * (LEVEL_POWER / loud)[:, None, None]


def _loudness(power: Tensor) -> Tensor:
    """Compute Zwicker's loudness, in sone per Bark, of the power of bands."""
    _, _, _, threshold, exponents = _tables(power.device)
    above = (power / threshold).clamp_min(1.0)
    scale = 0.1866 * (2 * threshold) ** exponents
    return scale * ((0.5 + 0.5 * above) ** exponents - 1)


def _audible(power: Tensor, factor: float = 1.0) -> Tensor:
    threshold = _tables(power.device)[3]
    return power * (power > factor * threshold)


def loudness_distance(decoded: Tensor, target: Tensor) -> Tensor:
    """Compare (batch, samples) audio at 16 kHz with its target as a listener of PESQ would.

    A differentiable form of the disturbances of ITU-T P.862 for aligned signals, whose filtering
    and gain are compensated as there (after Martin-Donas et al., "A deep learning loss function
    based on the perceptual evaluation of the speech quality", 2018). Tables of the
    recommendation are replaced by the formulas that they follow.

    Returns:
        (batch,) float32, 0 for equal signals.
    """
    own, wanted = _band_power(decoded), _band_power(target)
    # A constant filter is hardly disturbing: the target takes over the mean spectrum.
    speech = (_audible(wanted, 100).sum(-1, keepdim=True) > 1e7).float()
    means = [(_audible(power, 100) * speech).mean(1, keepdim=True) for power in (own, wanted)]
    wanted = wanted * ((means[0] + 1000) / (means[1] + 1000)).clamp(0.01, 100)
    # Slow changes of gain neither: the decoded windows take over the target's power.
    power = _audible(wanted).sum(-1)
    gain = (power + 5e3) / (_audible(own).sum(-1) + 5e3)
    gain = torch.cat([gain[:, :1], 0.8 * gain[:, 1:] + 0.2 * gain[:, :-1]], 1).clamp(3e-4, 5)
    own = own * gain[..., None]
    own_loudness, loudness = _loudness(own), _loudness(wanted)
    difference = own_loudness - loudness
    # Differences are masked by a quarter of the lesser loudness.
    masked = 0.25 * torch.minimum(own_loudness, loudness)
    disturbance = (difference.abs() - masked).clamp_min(0)
    # What is added disturbs more than what is missing.
    ratio = ((own + 50) / (wanted + 50)) ** 1.2
    added = disturbance * torch.where(ratio < 3, torch.zeros_like(ratio), ratio.clamp_max(12))
    width, bands = BARK_PER_BAND, disturbance.shape[-1]
    symmetric = width * (disturbance.square().sum(-1) * (width * bands) + 1e-6).sqrt()
    asymmetric = width * added.sum(-1)
    loud = ((power + 1e5) / 1e7) ** 0.04
    parts = [_over_time(part / loud) for part in (symmetric, asymmetric)]
    return 0.1 * parts[0] + 0.0309 * parts[1]


def _over_time(disturbance: Tensor) -> Tensor:
    count = min(SYLLABLE_WINDOWS, disturbance.shape[1])
    syllables = disturbance.clamp(1e-3, 45).unfold(1, count, max(1, count // 2))
    peaks = syllables.pow(6).mean(-1).pow(1 / 6)
    return peaks.square().mean(1).sqrt()
