"""Whisper that reads codes instead of a log-mel spectrogram.

The recogniser's weights stay as they are: `CodesWhisper` shares them with the model it was made of
and replaces only the convolution stem by a `CodeEmbedder`.
"""

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import WhisperForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.whisper.modeling_whisper import WhisperEncoder
from vqasr.adapters.code_embedder import CodeEmbedder

MEL_FRAMES_PER_CODE = 4
WINDOW_FRAMES = 750  # code frames in Whisper's 30 s


class CodesWhisperEncoder(nn.Module):
    """Whisper's encoder layers over embedded codes, always over a window of 30 s.

    Attributes:
        conv1, conv2: only their strides, from which `generate` computes its time grid.
    """

    main_input_name = "input_features"

    def __init__(self, encoder: WhisperEncoder, embedder: CodeEmbedder):
        super().__init__()
        self.embedder = embedder
        self.layers = encoder.layers
        self.layer_norm = encoder.layer_norm
        self.embed_positions = encoder.embed_positions
        self.conv1 = SimpleNamespace(stride=encoder.conv1.stride)
        self.conv2 = SimpleNamespace(stride=encoder.conv2.stride)

    def forward(self, input_features: Tensor, **kwargs: Any) -> BaseModelOutput:
        """(batch, n, 3000) from `to_features` -> states (batch, 1500, d_model)."""
        heard = input_features[..., ::MEL_FRAMES_PER_CODE]
        hidden = self.embedder(heard if heard.is_floating_point() else heard.long() - 1)
        hidden = hidden + self.embed_positions.weight[: hidden.shape[1]]
        for layer in self.layers:
            hidden = layer(hidden, None)
        return BaseModelOutput(last_hidden_state=self.layer_norm(hidden))


class CodesWhisper(WhisperForConditionalGeneration):
    """`WhisperForConditionalGeneration` whose input_features are codes on Whisper's time grid.

    Args:
        whisper: its decoder and encoder layers are shared, not copied.
        embedder: codes to embeddings of whisper's width.
    """

    def __init__(self, whisper: WhisperForConditionalGeneration, embedder: CodeEmbedder):
        with torch.device("meta"):  # the weights come from `whisper`
            super().__init__(whisper.config)
        self.model.encoder = CodesWhisperEncoder(whisper.model.encoder, embedder)
        self.model.decoder = whisper.model.decoder
        self.proj_out = whisper.proj_out
        self.generation_config = whisper.generation_config
        self.eval()


def to_features(heard: Tensor) -> Tensor:
    """Put codes (or latents) on Whisper's grid of 100 Hz, where `generate` cuts its windows.

    Args:
        heard: codes (batch, n, frames) int at 25 Hz, -1 for no frame, -2 for a lost one; or
            unquantized latents (batch, latent_dim, frames) float.

    Returns:
        (batch, n or latent_dim, grid): code + 1 as int32, or the latent, four times each, filled up
        to 30 s with 0, which means "no frame" and is also what `generate` pads with.
    """
    grid = heard if heard.is_floating_point() else (heard + 1).to(torch.int32)
    grid = grid.repeat_interleave(MEL_FRAMES_PER_CODE, dim=-1)
    return F.pad(grid, (0, max(0, MEL_FRAMES_PER_CODE * WINDOW_FRAMES - grid.shape[-1])))
