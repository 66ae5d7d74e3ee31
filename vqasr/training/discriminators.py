"""Discriminators that tell recorded from decoded speech by their spectra, and their training."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from vqasr.training.checkpoint import below, load_optimizer, optimizer_tensors
from vqasr.training.optimizer import adamw
from vqasr.training.precision import autocast
from vqasr.training.spectral_losses import WINDOWS, magnitudes

CHANNELS = 32
LEAK = 0.1
# Magnitudes to this power: loud ones count less, and silence does not count as in a logarithm.
COMPRESSION = 0.3
_PREFIX, _OPTIMIZER = "discriminators.", "discriminator_optimizer."


class SpectrogramDiscriminator(nn.Module):
    """Judge pieces of an STFT's magnitudes (after Jang et al. 2021, UnivNet, arXiv 2106.07889).

    Magnitudes alone: the phase of a voice is not in the codes. They are compressed, and strides go
    along frequency.

    Args:
        window: of the STFT, in samples.
    """

    def __init__(self, window: int):
        super().__init__()
        self._window = window
        strides = [1, 2, 2, 2]
        channels = [1, *[CHANNELS] * len(strides)]
        layers = [
            nn.Conv2d(a, b, (3, 9), (1, stride), (1, 4))
            for a, b, stride in zip(channels, channels[1:], strides, strict=False)
        ]
        layers.append(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1))
        self.layers = nn.ModuleList(map(weight_norm, layers))
        self.judge = weight_norm(nn.Conv2d(CHANNELS, 1, 3, padding=1))

    def forward(self, audio: Tensor) -> list[Tensor]:
        """Judge (batch, samples) audio.

        Returns:
            the layers' outputs, (batch, 32, windows, bins) each, and the judgement of each place,
            (batch, 1, windows, bins); bins become fewer from layer to layer.
        """
        hidden = magnitudes(audio, self._window)[:, None] ** COMPRESSION
        outputs = []
        for layer in self.layers:
            hidden = F.leaky_relu(layer(hidden), LEAK)
            outputs.append(hidden)
        return [*outputs, self.judge(hidden)]


class Adversary:
    """One discriminator for each resolution, trained beside the vocoder by least squares.

    Least squares after Mao et al. 2017 (arXiv 1611.04076), features after Kong et al. 2020
    (HiFi-GAN, arXiv 2010.05646).

    Args:
        learning_rate: of the discriminators, constant.
        device: that trains.
    """

    def __init__(self, learning_rate: float, device: torch.device):
        self.modules = nn.ModuleList(map(SpectrogramDiscriminator, WINDOWS)).to(device)
        self.device = device
        self._optimizer = adamw([*self.modules.parameters()], learning_rate)

    def update(self, decoded: Tensor, target: Tensor) -> Tensor:
        """Train the discriminators on (batch, samples) audio; return their loss, 0.5 by chance."""
        self.modules.requires_grad_(True)
        both = torch.cat([decoded.detach(), target])
        losses = []
        with autocast(self.device):
            for module in self.modules:
                own, wanted = module(both)[-1].float().chunk(2)
                losses.append(own.square().mean() + (wanted - 1.0).square().mean())
        loss = torch.stack(losses).mean()
        self._optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.modules.parameters(), 1.0)
        self._optimizer.step()
        return loss.detach()

    def losses(self, decoded: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Judge decoded audio (batch, samples), beside recorded audio.

        Returns:
            "adversarial": mean squared distance of the judgement from 1, the target for recorded
            speech; "features": mean absolute difference of the layers' outputs, relative to their
            size on recorded speech.
        """
        self.modules.requires_grad_(False)
        adversarial, features = [], []
        with autocast(self.device):
            for module in self.modules:
                with torch.no_grad():
                    wanted = module(target)
                own = module(decoded)
                adversarial.append((own[-1].float() - 1.0).square().mean())
                features += [_relative(*pair) for pair in zip(own[:-1], wanted[:-1], strict=True)]
        return {
            "adversarial": torch.stack(adversarial).mean(),
            "features": torch.stack(features).mean(),
        }

    def state(self) -> dict[str, Tensor]:
        """Return weights and optimizer state for a checkpoint."""
        weights = {_PREFIX + key: value for key, value in self.modules.state_dict().items()}
        return weights | optimizer_tensors(self._optimizer, _OPTIMIZER)

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Load what `state` returned."""
        self.modules.load_state_dict(below(tensors, _PREFIX))
        load_optimizer(self._optimizer, tensors, _OPTIMIZER)


def _relative(own: Tensor, wanted: Tensor) -> Tensor:
    wanted = wanted.float()
    return (own.float() - wanted).abs().mean() / wanted.abs().mean().clamp_min(1e-4)
