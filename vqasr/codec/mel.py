"""Log-mel front end with Whisper's filters, but no statistic over the whole clip.

Whisper subtracts nothing but clamps to 8 decades under the clip's maximum, which a live encoder
cannot know. Here the floor is fixed, so that a frame depends on its own 400 samples alone.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqasr.audio._torchaudio import ensure_torchaudio
from vqasr.codec.convolution import StreamState
from vqasr.grid import SAMPLING_RATE_HZ

N_FFT = 400
MEL_HOP_LENGTH = 160
N_MELS = 80
# Power below 1e-7 (-70 dB) is digital silence or dither; Whisper's own floor for normal speech,
# eight decades under the maximum, lies at about the same place.
POWER_FLOOR = 1e-7


@lru_cache(maxsize=8)
def mel_filters(device: torch.device) -> Tensor:
    """Slaney-scaled mel filters as in Whisper, shape (201, 80), float32."""
    filters = ensure_torchaudio().functional.melscale_fbanks(
        N_FFT // 2 + 1, 0.0, SAMPLING_RATE_HZ / 2, N_MELS, SAMPLING_RATE_HZ, "slaney", "slaney"
    )
    return filters.to(device)


@lru_cache(maxsize=8)
def _window(device: torch.device) -> Tensor:
    return torch.hann_window(N_FFT, device=device)


def mel_power(samples: Tensor) -> Tensor:
    """Mel power of every complete 400-sample window.

    Args:
        samples: (batch, samples) float at 16 kHz; window i starts at sample 160 i.

    Returns:
        (batch, windows, 80) float32.
    """
    with torch.autocast(samples.device.type, enabled=False):
        windows = samples.float().unfold(-1, N_FFT, MEL_HOP_LENGTH) * _window(samples.device)
        spectrum = torch.view_as_real(torch.fft.rfft(windows))
        power = spectrum.square().sum(-1)
        return power @ mel_filters(samples.device)


def clip_mel_power(samples: Tensor) -> Tensor:
    """`mel_power` of whole clips (batch, samples), zeros around them: 100 frames a second."""
    return mel_power(F.pad(samples, (N_FFT // 2, N_FFT // 2 - 1)))


def log_mel(power: Tensor, power_floor: float = POWER_FLOOR) -> Tensor:
    """Mel power to Whisper's scale, (log10 power + 4) / 4; smaller power counts as the floor."""
    return (power.clamp_min(power_floor).log10() + 4.0) / 4.0


def clip_log_mel(samples: Tensor) -> Tensor:
    """Log-mel of whole clips, zeros around them: what `LogMel` gives, at once.

    Args:
        samples: (batch, samples) float32 at 16 kHz.

    Returns:
        (batch, frames, 80) float32 in Whisper's scale.
    """
    return log_mel(clip_mel_power(samples))


class LogMel(nn.Module):
    """Streaming log-mel: frame i covers the samples 160 i - 200 to 160 i + 199.

    The scale is Whisper's, (log10 power + 4) / 4, so that values lie in about -0.75 to 1.5.
    """

    def forward(self, samples: Tensor, state: StreamState) -> Tensor:
        """(batch, samples) float -> (batch, frames, 80) float32."""
        buffer = state.extend(self, samples, left=N_FFT // 2)
        frames = max(0, (buffer.shape[1] - N_FFT) // MEL_HOP_LENGTH + 1)
        state.keep(self, buffer[:, frames * MEL_HOP_LENGTH :])
        if frames == 0:
            return samples.new_zeros(samples.shape[0], 0, N_MELS)
        return log_mel(mel_power(buffer))
