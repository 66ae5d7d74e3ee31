"""Log-mel front end with Whisper's filters and a fixed floor.

Whisper clamps to 8 decades under the clip's maximum, which a live encoder cannot know. With a fixed
floor, a frame depends on its own 400 samples alone.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from vqasr.codec.convolution import StreamState
from vqasr.grid import FINE_HOP_LENGTH, SAMPLING_RATE_HZ

N_FFT = 400
N_MELS = 80
# Power below 1e-7 (-70 dB) is digital silence or dither. Whisper's own floor lies at about the same
# place for normal speech.
POWER_FLOOR = 1e-7


# Tensors made in inference mode could not be used in a training later.
@lru_cache(maxsize=16)
@torch.inference_mode(False)
def mel_filters(
    device: torch.device, n_fft: int = N_FFT, bands: int = N_MELS, norm: str | None = "slaney"
) -> Tensor:
    """Return mel filters, (n_fft / 2 + 1, bands) float32; Whisper's, (201, 80), by default."""
    rate = SAMPLING_RATE_HZ
    return melscale_fbanks(n_fft // 2 + 1, 0.0, rate / 2, bands, rate, norm, "slaney").to(device)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def hann_window(device: torch.device, length: int = N_FFT) -> Tensor:
    """Return a Hann window, (length,) float32."""
    return torch.hann_window(length, device=device)


def _mel_power(samples: Tensor, bands: int = N_MELS) -> Tensor:
    """Compute the mel power of every complete 400-sample window; window i starts at 160 i."""
    with torch.autocast(samples.device.type, enabled=False):
        windows = samples.float().unfold(-1, N_FFT, FINE_HOP_LENGTH) * hann_window(samples.device)
        spectrum = torch.view_as_real(torch.fft.rfft(windows))
        power = spectrum.square().sum(-1)
        return power @ mel_filters(samples.device, bands=bands)


def clip_mel_power(samples: Tensor, bands: int = N_MELS) -> Tensor:
    """Compute the mel power (batch, frames, bands) of whole clips (batch, samples), zero-padded."""
    return _mel_power(F.pad(samples, (N_FFT // 2, N_FFT // 2 - 1)), bands)


def log_mel(power: Tensor, power_floor: float = POWER_FLOOR) -> Tensor:
    """Convert mel power, at least the floor, to Whisper's scale: (log10 power + 4) / 4."""
    return (power.clamp_min(power_floor).log10() + 4.0) / 4.0


def clip_log_mel(samples: Tensor) -> Tensor:
    """Compute the log-mel of whole clips, as `LogMel` does in a stream.

    Args:
        samples: (batch, samples) float32 at 16 kHz.

    Returns:
        (batch, frames, 80) float32 in Whisper's scale.
    """
    return log_mel(clip_mel_power(samples))


class LogMel(nn.Module):
    """Streaming log-mel: frame i covers the samples 160 i - 200 to 160 i + 199.

    Values in Whisper's scale, (log10 power + 4) / 4, lie in about -0.75 to 1.5.
    """

    def forward(self, samples: Tensor, state: StreamState) -> Tensor:
        """Transform (batch, samples) float to (batch, complete frames, 80) float32."""
        buffer, frames = state.extend(self, samples, N_FFT // 2, N_FFT, FINE_HOP_LENGTH)
        if frames == 0:
            return samples.new_zeros(samples.shape[0], 0, N_MELS)
        return log_mel(_mel_power(buffer))
