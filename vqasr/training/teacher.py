"""The frozen recogniser that the codes are distilled from."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import WhisperForConditionalGeneration

from vqasr.codec.mel import log_mel
from vqasr.training.precision import fast_dtype

# Whisper's own floor.
POWER_FLOOR = 1e-10


class WhisperTeacher(nn.Module):
    """Whisper's front end, encoder layers and decoder as differentiable functions of embeddings.

    Whisper is copied; the copy's linear layers have the dtype that is fast on the device.
    """

    def __init__(self, whisper: WhisperForConditionalGeneration, device: torch.device):
        super().__init__()
        # A copy, because autocast casts frozen weights anew at every use (a tenth of a step).
        self.whisper = copy.deepcopy(whisper).eval().requires_grad_(False)
        for module in self.whisper.modules():
            if isinstance(module, nn.Linear):
                module.to(fast_dtype(device))
        self.to(device)

    def stem(self, power: Tensor) -> Tensor:
        """Embed mel power (batch, frames at 100 Hz, 80) as (batch, frames at 50 Hz, d_model).

        Normalised over the clip as Whisper does; the frames end with the clip, not at 30 s.
        """
        mel = log_mel(power, POWER_FLOOR)
        mel = torch.maximum(mel, mel.amax((1, 2), keepdim=True) - 2.0)  # eight decades
        encoder = self.whisper.model.encoder
        hidden = F.gelu(encoder.conv1(mel.transpose(1, 2)))
        return F.gelu(encoder.conv2(hidden)).transpose(1, 2).float()

    def layers(self, embeddings: Tensor, exists: Tensor | None = None) -> list[Tensor]:
        """Compute the encoder layers' outputs, (batch, frames, d_model) each; the last is normed.

        Args:
            embeddings: (batch, frames, d_model).
            exists: (batch, frames) bool, the frames that are attended to; None for all.
        """
        mask = None if exists is None else exists[:, None, None]
        encoder = self.whisper.model.encoder
        hidden = embeddings.float() + encoder.embed_positions.weight[: embeddings.shape[1]]
        outputs = []
        for layer in encoder.layers:
            hidden = layer(hidden, mask)
            outputs.append(hidden)
        outputs[-1] = encoder.layer_norm(hidden)
        return outputs

    def predictions(
        self, states: Tensor, tokens: Tensor, positions: Tensor, exists: Tensor | None = None
    ) -> Tensor:
        """Compute the decoder's logits (positions, vocabulary) float32, given encoder states.

        Args:
            states: (items, frames, d_model).
            tokens: (items, tokens) int.
            positions: (positions,) int, places in the flattened tokens; not all, because a
                vocabulary of 50,000 makes logits expensive.
            exists: (items, frames) bool, the states that are attended to; None for all.
        """
        # The layers, and not the decoder: transformers' Whisper takes no mask of encoder states.
        decoder = self.whisper.model.decoder
        mask = None if exists is None else exists[:, None, None]
        places = decoder.embed_positions.weight[: tokens.shape[1]]
        hidden = decoder.embed_tokens(tokens) + places
        for layer in decoder.layers:
            hidden = layer(
                hidden, encoder_hidden_states=states, encoder_attention_mask=mask, use_cache=False
            )
        hidden = decoder.layer_norm(hidden).flatten(0, 1).index_select(0, positions)
        return self.whisper.proj_out(hidden).float()

    @torch.no_grad()
    def transcribe(self, states: Tensor, prompt: list[int], count: int) -> Tensor:
        """Return the prompt and the `count` likeliest next tokens, (items, tokens) int64.

        Args:
            states: (items, frames, d_model).
            prompt: tokens that begin each text.
            count: tokens of each text; what follows the end of a text has no meaning.
        """
        tokens = torch.tensor([prompt] * len(states), device=states.device)
        cache, given = None, tokens
        for _ in range(count):
            output = self.whisper.model.decoder(
                given, encoder_hidden_states=states, past_key_values=cache, use_cache=True
            )
            cache = output.past_key_values
            given = self.whisper.proj_out(output.last_hidden_state[:, -1:]).argmax(-1)
            tokens = torch.cat([tokens, given], 1)
        return tokens
