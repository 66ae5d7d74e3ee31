"""Let Whisper read codes instead of a log-mel spectrogram.

A `CodeEmbedder` replaces the convolution stem; all other layers are Whisper's own.
"""

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperForConditionalGeneration,
)
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from vqasr.adapters.embedder import CodeEmbedder, CodeEmbedderConfig
from vqasr.adapters.guards import LoopGuard, TokenLimit
from vqasr.adapters.windows import have_speech
from vqasr.codec.convolution import StreamBlock
from vqasr.codec.quantizer import ResidualVQ
from vqasr.grid import FRAME_S, HOPS_PER_FRAME, WINDOW_FRAMES


class VQWhisperConfig(WhisperConfig):
    """Configure a `VQWhisperForConditionalGeneration`.

    Args:
        embedder: sizes of the `CodeEmbedder`.
        codec_fingerprint: of the codec whose codes it reads, hexadecimal.
        padded: pad to 30 s, as the original Whisper does, even if the embedder has closing frames.
            Timestamps always need padding.
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


@dataclass
class CodesEncoderOutput(BaseModelOutput):
    """Hold encoder states (batch, states, d_model), and the mask that decoder layers add."""

    cross_mask: Tensor | None = None


class CodesWhisperEncoder(nn.Module):
    """Run Whisper's encoder layers over embedded codes.

    They cover the frames that exist and the closing frames after them; or a window of 30 s, as the
    original Whisper's, if `padded` is set, the embedder has no closing frames, or the input is
    latents.

    Attributes:
        cross_mask: (batch, 1, 1, states) float to add, the lowest number on padding; None without.
        token_limit: limits the transcript by the duration of the codes.
        conv1, conv2: only strides, from which `generate` computes its time grid.
    """

    main_input_name = "input_features"

    def __init__(self, encoder: WhisperEncoder, embedder: CodeEmbedder, padded: bool, end: int):
        super().__init__()
        self.embedder = embedder
        self.padded = padded or not embedder.config.num_closing_frames
        self.cross_mask: Tensor | None = None
        self.token_limit = TokenLimit(end)
        # Computes nothing for batches without speech, of which no text is generated.
        self.skips_silence = False
        self.layers = encoder.layers
        self.layer_norm = encoder.layer_norm
        self.embed_positions = encoder.embed_positions
        self.conv1 = SimpleNamespace(stride=encoder.conv1.stride)
        self.conv2 = SimpleNamespace(stride=encoder.conv2.stride)

    @contextmanager
    def setting(self, name: str) -> Iterator[None]:
        """Set `padded` (to 30 s) or `skips_silence` to True within a `with` statement."""
        before = getattr(self, name)
        setattr(self, name, True)
        try:
            yield
        finally:
            setattr(self, name, before)

    def forward(self, input_features: Tensor, **kwargs: Any) -> CodesEncoderOutput:
        """Encode features (batch, n, 3000) of `to_features`: (batch, at most 1500, d_model)."""
        codes = input_features[..., ::HOPS_PER_FRAME]
        mask = None
        if not codes.is_floating_point():
            codes = codes.long() - 1
        lengths = CodeEmbedder.lengths(codes)
        if not self.training:
            speech = have_speech(self.embedder, codes)
            self.token_limit.restart(lengths * FRAME_S, speech)
            if self.skips_silence and not bool(speech.any()):
                self.cross_mask = None
                states = 2 * (WINDOW_FRAMES if self.padded else 1)
                return CodesEncoderOutput(
                    last_hidden_state=self.layer_norm.weight.new_zeros(
                        len(codes), states, self.embedder.config.embed_dim
                    )
                )
        if self.padded or codes.is_floating_point():
            hidden = self.embedder(codes)
        else:
            hidden, exists = self.embedder.close(codes[..., : int(lengths.max())])
            hidden, exists = hidden[:, : 2 * WINDOW_FRAMES], exists[:, : 2 * WINDOW_FRAMES]
            if not bool(exists.all()):
                mask = torch.zeros_like(exists, dtype=hidden.dtype)[:, None, None]
                mask.masked_fill_(~exists[:, None, None], torch.finfo(hidden.dtype).min)
        self.cross_mask = mask
        hidden = hidden + self.embed_positions.weight[: hidden.shape[1]]
        for layer in self.layers:
            hidden = layer(hidden, mask)
        return CodesEncoderOutput(last_hidden_state=self.layer_norm(hidden), cross_mask=mask)

    def _freeze_parameters(self) -> None:
        """Freeze all, as `freeze_encoder` asks; `embedder.requires_grad_()` trains that alone."""
        self.requires_grad_(False)


class VQWhisperForConditionalGeneration(WhisperForConditionalGeneration):
    """Generate text with a Whisper whose input_features are codes on Whisper's time grid.

    Args:
        config: of Whisper and embedder. To adapt an existing Whisper, see `from_base`.
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
            # transformers' decoder does not pass its layers a mask of encoder states.
            layer.register_forward_pre_hook(_MaskStates(encoder), with_kwargs=True)
        self.register_forward_pre_hook(_TakeMask(encoder), with_kwargs=True)
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
        """Adapt an existing Whisper, whose weights are shared, not copied.

        Args:
            whisper: has the encoder layers and the decoder.
            embedder: codes to embeddings of whisper's width.
            codec_fingerprint: 6 bytes, of the codec whose codes it reads.
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
        for name, parameter in model.named_parameters():
            if name in state:  # `load_state_dict` would set it in `whisper` too
                parameter.requires_grad_(state[name].requires_grad)
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
        """Generate as transformers does, without inventions.

        Codes without speech have no text (`have_speech`), the number of tokens is bounded by their
        duration (`TokenLimit`), and loops are broken (`LoopGuard`).

        With `return_timestamps` (a keyword) codes are padded, because Whisper places the end of a
        segment by the silence after it (measured in recipes/times).
        """
        encoder: Any = self.model.encoder
        first = getattr(self.generation_config, "no_timestamps_token_id", None)
        guards = [LoopGuard(first and first + 1), encoder.token_limit]
        kwargs["logits_processor"] = [*(kwargs.get("logits_processor") or []), *guards]
        padded = encoder.setting("padded") if kwargs.get("return_timestamps") else nullcontext()
        with encoder.setting("skips_silence"), padded:
            return super().generate(*args, **kwargs)


class _MaskStates:
    """Pass a decoder layer the mask of the encoder's states; a hook that copies with its model."""

    def __init__(self, encoder: CodesWhisperEncoder):
        self._encoder = encoder

    def __call__(self, layer: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> Any:
        mask, rows = self._encoder.cross_mask, len(args[0])
        if mask is not None and len(mask) != rows:  # one row for each beam
            mask = mask.repeat_interleave(rows // len(mask), dim=0)
        return args, {**kwargs, "encoder_attention_mask": mask}


class _TakeMask:
    """Take the mask of states that were computed before (`encoder_outputs`); a hook as well."""

    def __init__(self, encoder: CodesWhisperEncoder):
        self._encoder = encoder

    def __call__(self, model: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> None:
        outputs = kwargs.get("encoder_outputs")
        if isinstance(outputs, CodesEncoderOutput):
            self._encoder.cross_mask = outputs.cross_mask


def fast_suppression(config: GenerationConfig) -> GenerationConfig:
    """Suppress tokens by adding a bias instead of searching the vocabulary for them.

    The search takes a fifth of the time of greedy decoding of one utterance on a CPU.
    """
    config = copy.deepcopy(config)
    if config.suppress_tokens:
        config.sequence_bias = [[[int(token)], -torch.inf] for token in config.suppress_tokens]
        config.suppress_tokens = None
    return config


def to_features(codes: Tensor) -> Tensor:
    """Repeat codes or latents on Whisper's grid of 100 Hz, where `generate` cuts its windows.

    Args:
        codes: codes (batch, n, frames) or latents, as `CodeEmbedder.look_up` takes them.

    Returns:
        (batch, n or latent_dim, grid): code + 1 as int32, or the latent, four times each, padded to
        at least 30 s with 0, which `generate` pads with too.
    """
    grid = codes if codes.is_floating_point() else (codes + 1).to(torch.int32)
    grid = grid.repeat_interleave(HOPS_PER_FRAME, dim=-1)
    return F.pad(grid, (0, max(0, HOPS_PER_FRAME * WINDOW_FRAMES - grid.shape[-1])))
