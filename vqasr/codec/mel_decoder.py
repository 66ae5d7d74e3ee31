"""Latents to log-mel: the part of the codec that only listening needs."""

import torch.nn.functional as F
from torch import Tensor, nn

from vqasr.codec.configuration import VQCodecConfig
from vqasr.codec.convolution import StreamBlock, StreamState
from vqasr.codec.mel import N_MELS
from vqasr.grid import MEL_FRAMES_PER_FRAME


class VQCodecMelDecoder(nn.Module):
    """Latents at 25 Hz to log-mel at 100 Hz."""

    def __init__(self, config: VQCodecConfig):
        super().__init__()
        width = config.decoder_hidden_size
        self.right = config.num_decoder_layers * 3
        self.from_latent = nn.Linear(config.latent_dim, width)
        self.blocks = nn.ModuleList(
            StreamBlock(width, 2, config.kernel_size, right=3)
            for _ in range(config.num_decoder_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.mel_head = nn.Linear(width, MEL_FRAMES_PER_FRAME * N_MELS)

    def forward(self, latents: Tensor) -> Tensor:
        """(batch, frames, latent_dim) -> log-mel (batch, 4 x frames, 80) in Whisper's scale."""
        hidden = self.from_latent(F.pad(latents, (0, 0, 0, self.right))).float()
        state = StreamState()
        for block in self.blocks:
            hidden = block(hidden, state)
        mel = self.mel_head(self.norm(hidden))
        return mel.reshape(mel.shape[0], -1, N_MELS)
