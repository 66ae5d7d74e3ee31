"""Log-mel to waveform without a trained vocoder (Griffin and Lim 1984, fast variant of 2013)."""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torchaudio.functional import griffinlim

from vqasr.codec.mel import N_FFT, hann_window, mel_filters
from vqasr.grid import FINE_HOP_LENGTH

PIECE_FRAMES = 6000  # a minute
OVERLAP_FRAMES = 20


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def _inverse_filters(device: torch.device) -> Tensor:
    return torch.linalg.pinv(mel_filters(device))


def log_mel_to_audio(log_mel: Tensor, iterations: int = 32) -> Tensor:
    """Estimate the audio of a log-mel spectrogram.

    Args:
        log_mel: (batch, frames, 80) in the scale of `LogMel`, 100 Hz.
        iterations: of Griffin-Lim.

    Returns:
        (batch, 160 x frames) float32 at 16 kHz. Deterministic: phases start at zero.
    """
    frames = log_mel.shape[1]
    if frames <= PIECE_FRAMES + OVERLAP_FRAMES:
        return _estimate(log_mel, iterations)
    # Long recordings are decoded in pieces with a crossfade, so that memory stays bounded.
    audio = log_mel.new_zeros(len(log_mel), frames * FINE_HOP_LENGTH)
    overlap = OVERLAP_FRAMES * FINE_HOP_LENGTH
    fade_in = torch.linspace(0.0, 1.0, overlap, device=log_mel.device)
    for start in range(0, frames - OVERLAP_FRAMES, PIECE_FRAMES):
        piece = _estimate(log_mel[:, start : start + PIECE_FRAMES + OVERLAP_FRAMES], iterations)
        if start:
            piece[:, :overlap] *= fade_in
        if start + PIECE_FRAMES + OVERLAP_FRAMES < frames:
            piece[:, -overlap:] *= 1.0 - fade_in
        at = start * FINE_HOP_LENGTH
        audio[:, at : at + piece.shape[1]] += piece
    return audio


def _estimate(log_mel: Tensor, iterations: int) -> Tensor:
    batch, frames, _ = log_mel.shape
    if frames == 0:
        return log_mel.new_zeros(batch, 0)
    power = torch.pow(10.0, log_mel.float() * 4.0 - 4.0)
    spectrum = (power @ _inverse_filters(log_mel.device)).clamp_min(0.0)
    # One frame more, so that frames x hop samples lie between the first and last window's centre.
    spectrum = torch.cat([spectrum, spectrum[:, -1:]], dim=1).transpose(1, 2)
    if frames < 4:  # reflection padding inside istft/stft needs more than n_fft / 2 samples
        spectrum = F.pad(spectrum, (0, 4 - frames))
    window = hann_window(log_mel.device)
    audio = griffinlim(
        spectrum, window, N_FFT, FINE_HOP_LENGTH, N_FFT,
        power=2.0, n_iter=iterations, momentum=0.99, length=None, rand_init=False,
    )  # fmt: skip
    return audio[:, : FINE_HOP_LENGTH * frames]
