"""The frozen recogniser that the codes are distilled from."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import WhisperForConditionalGeneration, WhisperTokenizer

from vqasr.adapters.masked_decoder import CrossMask, additive_mask, mask_decoder
from vqasr.mel import clip_log_mel
from vqasr.training.precision import fast_dtype


class WhisperTeacher(nn.Module):
    """Whisper's front end, encoder layers and decoder as differentiable functions of embeddings.

    Args:
        whisper: is copied; the copy's linear layers have the dtype that is fast on `device`.
        tokenizer: of the same model.
        device: where it will be used.
    """

    def __init__(
        self,
        whisper: WhisperForConditionalGeneration,
        tokenizer: WhisperTokenizer,
        device: torch.device,
    ):
        super().__init__()
        # A copy, because autocast casts frozen weights anew at every use (a tenth of a step).
        self.whisper = copy.deepcopy(whisper).eval().requires_grad_(False)
        for module in self.whisper.modules():
            if isinstance(module, nn.Linear):
                module.to(fast_dtype(device))
        self.tokenizer = tokenizer
        self._cross_mask = CrossMask()
        self._decoder = mask_decoder(self.whisper.model.decoder, self._cross_mask)

    def stem(self, samples: Tensor) -> Tensor:
        """(batch, samples) -> Whisper's own embeddings (batch, frames at 50 Hz, d_model).

        Normalised over the clip as Whisper does; the frames end with the samples, not at 30 s.
        """
        mel = clip_log_mel(samples, power_floor=1e-10)
        mel = torch.maximum(mel, mel.amax((1, 2), keepdim=True) - 2.0)  # eight decades
        encoder = self.whisper.model.encoder
        hidden = F.gelu(encoder.conv1(mel.transpose(1, 2)))
        return F.gelu(encoder.conv2(hidden)).transpose(1, 2)

    def layers(self, embeddings: Tensor, exists: Tensor | None = None) -> list[Tensor]:
        """Outputs of the encoder's layers, each (batch, frames, d_model); the last one normed.

        Args:
            embeddings: (batch, frames, d_model).
            exists: (batch, frames) bool, the frames that are attended to; None for all.
        """
        mask = None if exists is None else additive_mask(exists, embeddings.dtype)
        encoder = self.whisper.model.encoder
        hidden = embeddings + encoder.embed_positions.weight[: embeddings.shape[1]]
        outputs = []
        for layer in encoder.layers:
            hidden = layer(hidden, mask)
            outputs.append(hidden)
        outputs[-1] = encoder.layer_norm(hidden)
        return outputs

    def tokens(
        self, texts: list[str], device: torch.device, end: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Decoder inputs (items, tokens) and a mask of the positions that predict text.

        With `end`, also of the position that predicts the end of a text that is not empty.

        Transcripts are often upper case, which Whisper never writes: they are put in sentence case.
        Widths are multiples of 16, for the same reason as those of the batches.
        """
        config = self.whisper.generation_config
        prefix = [config.decoder_start_token_id, config.no_timestamps_token_id]
        if getattr(config, "is_multilingual", False):
            prefix[1:1] = [config.lang_to_id["<|en|>"], config.task_to_id["transcribe"]]
        rows = []
        for text in texts:
            spoken = " " + (text.capitalize() if text.isupper() else text.strip())
            ids = self.tokenizer(spoken, add_special_tokens=False).input_ids if text else []
            rows.append(prefix + ids)
        width = -(-(max(map(len, rows)) + end) // 16) * 16
        tokens = torch.full((len(rows), width), int(config.eos_token_id))
        mask = torch.zeros(len(rows), width, dtype=torch.bool)
        for i, row in enumerate(rows):
            tokens[i, : len(row)] = torch.tensor(row)
            mask[i, len(prefix) - 1 : len(row) - 1 + (end and bool(texts[i]))] = True
        return tokens.to(device), mask.to(device)

    def predictions(
        self, states: Tensor, tokens: Tensor, positions: Tensor, exists: Tensor | None = None
    ) -> Tensor:
        """Logits (positions, vocabulary) of the decoder given encoder states.

        Args:
            states: (items, frames, d_model).
            tokens: (items, tokens) int.
            positions: (positions,) int, which of the items x tokens are wanted: a vocabulary of
                50,000 makes logits dear.
            exists: (items, frames) bool, the states that are attended to; None for all.
        """
        self._cross_mask.value = None if exists is None else additive_mask(exists, states.dtype)
        hidden = self._decoder(
            input_ids=tokens, encoder_hidden_states=states, use_cache=False
        ).last_hidden_state
        return self.whisper.proj_out(hidden.flatten(0, 1).index_select(0, positions))
