"""Whisper that reads codes instead of a log-mel spectrogram.

The recogniser's weights stay as they are: `CodesWhisper` shares them with the model it was made of
and replaces only the convolution stem by a `CodeEmbedder`.
"""

from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LogitsProcessorList, WhisperForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from vqasr.adapters.embedder import CodeEmbedder
from vqasr.adapters.masked_decoder import CrossMask, additive_mask, mask_decoder
from vqasr.adapters.token_limit import TokenLimit
from vqasr.adapters.token_masks import mask_tokens
from vqasr.grid import FRAME_S, MEL_FRAMES_PER_FRAME, NO_FRAME, WINDOW_FRAMES


class CodesWhisperEncoder(nn.Module):
    """Whisper's encoder layers over embedded codes.

    Over the frames that exist and the closing frames behind them; over a window of 30 s, as stock
    Whisper, where `padded` is set, the adapter has no closing frames, or latents are heard.

    Attributes:
        cross_mask: tells the decoder which states exist.
        token_limit: bounds the text by the time that the codes last.
        conv1, conv2: only their strides, from which `generate` computes its time grid.
    """

    main_input_name = "input_features"

    def __init__(self, encoder: WhisperEncoder, embedder: CodeEmbedder, padded: bool, end: int):
        super().__init__()
        self.embedder = embedder
        self.padded = padded or not embedder.config.num_closing_frames
        self.cross_mask = CrossMask()
        self.token_limit = TokenLimit(end)
        self.layers = encoder.layers
        self.layer_norm = encoder.layer_norm
        self.embed_positions = encoder.embed_positions
        self.conv1 = SimpleNamespace(stride=encoder.conv1.stride)
        self.conv2 = SimpleNamespace(stride=encoder.conv2.stride)

    def forward(self, input_features: Tensor, **kwargs: Any) -> BaseModelOutput:
        """(batch, n, 3000) from `to_features` -> states (batch, at most 1500, d_model)."""
        heard = input_features[..., ::MEL_FRAMES_PER_FRAME]
        self.token_limit.restart(_seconds(heard))
        mask = None
        if heard.is_floating_point():
            hidden = self.embedder(heard)
        elif self.padded:
            hidden = self.embedder(heard.long() - 1)
        else:
            codes = heard.long() - 1
            longest = int((codes[:, 0] != NO_FRAME).sum(1).max())
            hidden, exists = self.embedder.close(codes[..., :longest])
            hidden, exists = hidden[:, : 2 * WINDOW_FRAMES], exists[:, : 2 * WINDOW_FRAMES]
            mask = additive_mask(exists, hidden.dtype)
        self.cross_mask.value = mask
        hidden = hidden + self.embed_positions.weight[: hidden.shape[1]]
        for layer in self.layers:
            hidden = layer(hidden, mask)
        return BaseModelOutput(last_hidden_state=self.layer_norm(hidden))


class CodesWhisper(WhisperForConditionalGeneration):
    """`WhisperForConditionalGeneration` whose input_features are codes on Whisper's time grid.

    Args:
        whisper: its decoder and encoder layers are shared, not copied.
        embedder: codes to embeddings of whisper's width.
        padded: pad to 30 s as stock Whisper; otherwise the embedder's closing frames follow what
            exists, if it has any (but for timestamps, which are always read padded).
        codec_fingerprint: 6 bytes, of the codec whose codes the embedder reads, where known.
    """

    def __init__(
        self,
        whisper: WhisperForConditionalGeneration,
        embedder: CodeEmbedder,
        padded: bool = False,
        codec_fingerprint: bytes | None = None,
    ):
        with torch.device("meta"):  # the weights come from `whisper`
            super().__init__(whisper.config)
        end = int(whisper.generation_config.eos_token_id)
        encoder = CodesWhisperEncoder(whisper.model.encoder, embedder, padded, end)
        self.model.encoder = encoder
        self.model.decoder = mask_decoder(whisper.model.decoder, encoder.cross_mask)
        self.proj_out = whisper.proj_out
        self.generation_config = whisper.generation_config
        self.codec_fingerprint = codec_fingerprint
        self.eval()

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """As transformers', with texts no longer than their codes allow (`TokenLimit`).

        With `return_timestamps` (a keyword) it reads padded.

        Whisper ends its segments by the silence it hears behind them: without padding 63 % of their
        starts and ends lay within 0.2 s of stock Whisper's, padded 91 % (recipes/times).
        """
        encoder = self.model.encoder
        kwargs["logits_processor"] = [*kwargs.get("logits_processor", []), encoder.token_limit]
        before = encoder.padded
        encoder.padded = before or bool(kwargs.get("return_timestamps"))
        try:
            return super().generate(*args, **kwargs)
        finally:
            encoder.padded = before

    def _retrieve_logit_processors(self, *args: Any, **kwargs: Any) -> LogitsProcessorList:
        """As `generate` sets them up, but for the time they take."""
        found = super()._retrieve_logit_processors(*args, **kwargs)
        return mask_tokens(found or [])


def _seconds(heard: Tensor) -> Tensor | None:
    """(batch,) seconds of the frames that exist, of codes + 1 as `to_features` puts them."""
    if heard.is_floating_point():
        return None
    return (heard[:, 0] != 0).sum(1) * FRAME_S


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
    grid = grid.repeat_interleave(MEL_FRAMES_PER_FRAME, dim=-1)
    return F.pad(grid, (0, max(0, MEL_FRAMES_PER_FRAME * WINDOW_FRAMES - grid.shape[-1])))
