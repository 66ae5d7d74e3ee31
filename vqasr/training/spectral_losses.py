"""Distances of waveforms by their spectra, at several resolutions."""

import torch
from torch import Tensor

from vqasr.codec.mel import hann_window, mel_filters

# Window lengths in samples (32 to 128 ms), each a quarter apart. Shorter ones see single periods of
# a voice, whose places are not in the codes: noise instead of periods would be the best guess.
WINDOWS = (512, 1024, 2048)
# Mel bands of each window length, as many as it can tell apart.
MEL_BANDS = (64, 80, 80)
# Magnitudes below this are silence; a sine at full scale has a quarter of the window's length.
FLOOR = 1e-3


def magnitudes(audio: Tensor, length: int) -> Tensor:
    """Compute the STFT magnitudes (batch, windows, length / 2 + 1) of (batch, samples) audio."""
    windows = audio.unfold(-1, length, length // 4) * hann_window(audio.device, length)
    spectrum = torch.view_as_real(torch.fft.rfft(windows))
    return (spectrum.square().sum(-1) + FLOOR**2).sqrt()


def spectral_losses(decoded: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Compare (batch, samples) audio at 16 kHz with its target.

    Returns:
        "magnitude": mean absolute difference of log magnitudes; "convergence": Frobenius norm of
        the difference over that of the target (both after Yamamoto et al., arXiv 1910.11480);
        "mel": mean absolute difference of log mel magnitudes (Kong et al., arXiv 2010.05646). Means
        over the resolutions.
    """
    parts: dict[str, list[Tensor]] = {"magnitude": [], "convergence": [], "mel": []}
    for length, bands in zip(WINDOWS, MEL_BANDS, strict=True):
        own, wanted = magnitudes(decoded, length), magnitudes(target, length)
        parts["magnitude"].append((own.log() - wanted.log()).abs().mean())
        difference = torch.linalg.vector_norm(own - wanted)
        parts["convergence"].append(difference / torch.linalg.vector_norm(wanted))
        filters = mel_filters(own.device, length, bands, norm=None)
        mel, wanted_mel = ((m @ filters).clamp_min(FLOOR).log() for m in (own, wanted))
        parts["mel"].append((mel - wanted_mel).abs().mean())
    return {name: torch.stack(values).mean() for name, values in parts.items()}
