"""Whisper that reads codes instead of a log-mel spectrogram.

Only the convolution stem is replaced, by a `CodeEmbedder`; all other layers are Whisper's own.
"""

import copy
import dataclasses
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForSpeechSeq2Seq,
    GenerationConfig,
    WhisperConfig,
    WhisperForConditionalGeneration,
)
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from vqasr.adapters.code_features import CodesFeatureExtractor
from vqasr.adapters.embedder import CodeEmbedder, CodeEmbedderConfig
from vqasr.adapters.token_limit import TokenLimit
from vqasr.codec.convolution import StreamBlock
from vqasr.codec.quantizer import ResidualVQ
from vqasr.grid import FRAME_S, MEL_FRAMES_PER_FRAME, NO_FRAME, WINDOW_FRAMES


class VQWhisperConfig(WhisperConfig):
    """What defines a `VQWhisperForConditionalGeneration`.

    Args:
        embedder: sizes of its `CodeEmbedder`.
        codec_fingerprint: of the codec whose codes it reads, hexadecimal.
        padded: pad to 30 s as stock Whisper; otherwise the embedder's closing frames follow the
            codes, if it has any (but for timestamps, which are always read padded).
        kwargs: as `WhisperConfig`.
    """

    model_type = "vqasr_whisper"

    def __init__(
        self,
        embedder: dict[str, Any] | None = None,
        codec_fingerprint: str = "",
        padded: bool = False,
        **kwargs: Any,
    ):
        self.embedder = embedder or {
            "num_quantizers": 8, "codebook_size": 1024, "latent_dim": 64, "variable_depth": True,
        }  # fmt: skip
        self.codec_fingerprint = codec_fingerprint
        self.padded = padded
        super().__init__(**kwargs)


class CodesWhisperEncoder(nn.Module):
    """Whisper's encoder layers over embedded codes.

    Over the frames that exist and the closing frames behind them; over a window of 30 s, as stock
    Whisper, where `padded` is set, the adapter has no closing frames, or latents are read.

    Attributes:
        cross_mask: (batch, 1, 1, states) float or None, the states that exist, for the decoder.
        token_limit: bounds the text by the time that the codes last.
        conv1, conv2: only their strides, from which `generate` computes its time grid.
    """

    main_input_name = "input_features"

    def __init__(self, encoder: WhisperEncoder, embedder: CodeEmbedder, padded: bool, end: int):
        super().__init__()
        self.embedder = embedder
        self.padded = padded or not embedder.config.num_closing_frames
        self.cross_mask: Tensor | None = None
        self.token_limit = TokenLimit(end)
        self.layers = encoder.layers
        self.layer_norm = encoder.layer_norm
        self.embed_positions = encoder.embed_positions
        self.conv1 = SimpleNamespace(stride=encoder.conv1.stride)
        self.conv2 = SimpleNamespace(stride=encoder.conv2.stride)

    def forward(self, input_features: Tensor, **kwargs: Any) -> BaseModelOutput:
        """(batch, n, 3000) from `to_features` -> states (batch, at most 1500, d_model)."""
        codes = input_features[..., ::MEL_FRAMES_PER_FRAME]
        self.token_limit.restart(_seconds(codes))
        mask = None
        if codes.is_floating_point():
            hidden = self.embedder(codes)
        elif self.padded:
            hidden = self.embedder(codes.long() - 1)
        else:
            codes = codes.long() - 1
            longest = int((codes[:, 0] != NO_FRAME).sum(1).max())
            hidden, exists = self.embedder.close(codes[..., :longest])
            hidden, exists = hidden[:, : 2 * WINDOW_FRAMES], exists[:, : 2 * WINDOW_FRAMES]
            mask = additive_mask(exists, hidden.dtype)
        self.cross_mask = mask
        hidden = hidden + self.embed_positions.weight[: hidden.shape[1]]
        for layer in self.layers:
            hidden = layer(hidden, mask)
        return BaseModelOutput(last_hidden_state=self.layer_norm(hidden))


class VQWhisperForConditionalGeneration(WhisperForConditionalGeneration):
    """`WhisperForConditionalGeneration` whose input_features are codes on Whisper's time grid.

    For a Whisper that exists, see `from_base`.

    Args:
        config: sizes.
    """

    config_class = VQWhisperConfig
    config: VQWhisperConfig

    def __init__(self, config: VQWhisperConfig):
        super().__init__(config)
        embedder = CodeEmbedder(
            CodeEmbedderConfig(**{"embed_dim": config.d_model, **config.embedder})
        )
        end = int(config.eos_token_id)  # type: ignore[arg-type]
        encoder = CodesWhisperEncoder(self.model.encoder, embedder, config.padded, end)
        self.model.encoder = encoder
        for layer in self.model.decoder.layers:
            # transformers' decoder gives its layers no mask of encoder states.
            layer.register_forward_pre_hook(encoder_mask(encoder), with_kwargs=True)
        self.post_init()
        self.eval()

    @classmethod
    def from_base(
        cls,
        whisper: WhisperForConditionalGeneration,
        embedder: CodeEmbedder,
        codec_fingerprint: bytes,
        padded: bool = False,
    ) -> "VQWhisperForConditionalGeneration":
        """Codes for a Whisper that exists; its weights are shared, not copied.

        Args:
            whisper: decoder and encoder layers are taken from it.
            embedder: codes to embeddings of whisper's width.
            codec_fingerprint: 6 bytes, of the codec whose codes the embedder reads.
            padded: see `VQWhisperConfig`.
        """
        values = whisper.config.to_dict()
        values.pop("model_type")
        config = VQWhisperConfig(
            dataclasses.asdict(embedder.config), codec_fingerprint.hex(), padded, **values
        )
        with torch.device("meta"):  # the weights come from `whisper` and `embedder`
            model = cls(config)
        state = whisper.state_dict(keep_vars=True)
        model.load_state_dict(state, strict=False, assign=True)
        encoder: Any = model.model.encoder
        encoder.embedder = embedder
        model.generation_config = fast_suppression(whisper.generation_config)
        return model

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, ResidualVQ | StreamBlock):
            module.reset_parameters()
        else:
            super()._init_weights(module)

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """As transformers', with texts no longer than their codes allow (`TokenLimit`).

        With `return_timestamps` (a keyword) it reads padded. Whisper ends its segments by the
        silence it hears behind them: without padding 63 % of their starts and ends lay within 0.2 s
        of stock Whisper's, padded 91 % (recipes/times).
        """
        encoder: Any = self.model.encoder
        kwargs["logits_processor"] = [*kwargs.get("logits_processor", []), encoder.token_limit]
        before = encoder.padded
        encoder.padded = before or bool(kwargs.get("return_timestamps"))
        try:
            return super().generate(*args, **kwargs)
        finally:
            encoder.padded = before


def encoder_mask(encoder: CodesWhisperEncoder) -> Any:
    """Hook that gives a decoder layer the mask of the encoder's states."""

    def add(layer: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> Any:
        mask, rows = encoder.cross_mask, len(args[0])
        if mask is not None and len(mask) != rows:  # several rows an item where beams are searched
            mask = mask.repeat_interleave(rows // len(mask), dim=0)
        return args, {**kwargs, "encoder_attention_mask": mask}

    return add


def fast_suppression(config: GenerationConfig) -> GenerationConfig:
    """The same suppressed tokens as a bias, which is added at every step and not searched for.

    Searching the vocabulary for them is a fifth of greedy decoding of one utterance on a CPU.
    """
    config = copy.deepcopy(config)
    if config.suppress_tokens:
        config.sequence_bias = [[[int(token)], -torch.inf] for token in config.suppress_tokens]
        config.suppress_tokens = None
    return config


def additive_mask(exists: Tensor, dtype: torch.dtype) -> Tensor | None:
    """(batch, states) bool -> (batch, 1, 1, states), 0 or the lowest number; None if all exist."""
    if bool(exists.all()):
        return None
    lowest = torch.finfo(dtype).min
    return torch.zeros_like(exists, dtype=dtype).masked_fill(~exists, lowest)[:, None, None]


def to_features(codes: Tensor) -> Tensor:
    """Put codes (or latents) on Whisper's grid of 100 Hz, where `generate` cuts its windows.

    Args:
        codes: (batch, n, frames) int at 25 Hz, -1 for no frame, -2 for a lost one; or unquantized
            latents (batch, latent_dim, frames) float.

    Returns:
        (batch, n or latent_dim, grid): code + 1 as int32, or the latent, four times each, filled up
        to 30 s with 0, which means "no frame" and is also what `generate` pads with.
    """
    grid = codes if codes.is_floating_point() else (codes + 1).to(torch.int32)
    grid = grid.repeat_interleave(MEL_FRAMES_PER_FRAME, dim=-1)
    return F.pad(grid, (0, max(0, MEL_FRAMES_PER_FRAME * WINDOW_FRAMES - grid.shape[-1])))


def _seconds(codes: Tensor) -> Tensor | None:
    """(batch,) seconds of the frames that exist, of codes + 1 as `to_features` puts them."""
    if codes.is_floating_point():
        return None
    return (codes[:, 0] != 0).sum(1) * FRAME_S


# So that transformers' Auto classes and pipeline load such a model by its folder or hub id.
AutoConfig.register(VQWhisperConfig.model_type, VQWhisperConfig)
AutoModelForSpeechSeq2Seq.register(VQWhisperConfig, VQWhisperForConditionalGeneration)
AutoFeatureExtractor.register(VQWhisperConfig, CodesFeatureExtractor)
