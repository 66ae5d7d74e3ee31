"""Let Wav2Vec2, HuBERT or WavLM with a CTC head read codes instead of samples.

Embedded codes replace the output of the feature projection: neither the convolutions over the
waveform nor the projection are computed. Encoder and head keep the base model's weights.
"""

import copy
import dataclasses
import os
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCTC,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutput
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2EncoderStableLayerNorm
from transformers.models.whisper.modeling_whisper import sinusoids

from vqasr.adapters.embedder import CodeEmbedder, CodeEmbedderConfig
from vqasr.adapters.windows import have_speech
from vqasr.codec.convolution import StreamBlock
from vqasr.codec.int8_weights import load_int8, save_int8
from vqasr.codec.quantizer import ResidualVQ
from vqasr.errors import InvalidCodesError, RecogniserError
from vqasr.fingerprint import weights_fingerprint
from vqasr.grid import HOP_LENGTH, NO_FRAME, WINDOW_FRAMES

BASES = ("wav2vec2", "hubert", "wavlm")
IGNORED = -100  # pads labels, as everywhere in transformers


class VQWav2Vec2Config(PretrainedConfig):
    """Configure a `VQWav2Vec2ForCTC`.

    Args:
        base: configuration of the Wav2Vec2, HuBERT or WavLM model, with its model_type.
        embedder: sizes of the `CodeEmbedder`.
        codec_fingerprint: of the codec whose codes it reads, hexadecimal.
        sinusoids: add Whisper's positions to the embeddings, for layers copied from a Whisper.
        coarse_layers: layers of a second encoder at 25 Hz, the frame rate of codes, which reads the
            states of the first in pairs; 0 without one. Logits are at 25 Hz then, else at 50 Hz.
    """

    model_type = "vqasr_ctc"

    def __init__(
        self,
        base: dict[str, Any] | None = None,
        embedder: dict[str, Any] | None = None,
        codec_fingerprint: str = "",
        sinusoids: bool = False,
        coarse_layers: int = 0,
        **kwargs: Any,
    ):
        self.base = base or {"model_type": BASES[0]}
        self.embedder = embedder or {}
        self.codec_fingerprint = codec_fingerprint
        self.sinusoids = sinusoids
        self.coarse_layers = coarse_layers
        # transformers' pipeline measures chunks and times with it: samples for each logit.
        kwargs.pop("inputs_to_logits_ratio", None)
        self.inputs_to_logits_ratio = HOP_LENGTH // self.logits_per_frame
        super().__init__(**kwargs)

    @property
    def logits_per_frame(self) -> int:
        """Number of logits for each frame of codes: 1 after a second encoder, else 2."""
        return 1 if self.coarse_layers else 2

    def base_config(self) -> PretrainedConfig:
        """Return the base model's configuration; RecogniserError for another family."""
        values = dict(self.base)
        kind = values.pop("model_type", None)
        if kind not in BASES or values.get("add_adapter"):
            raise RecogniserError(
                f"a CTC model of type {kind!r} (add_adapter={bool(values.get('add_adapter'))}) "
                f"cannot read codes; {', '.join(BASES)} without add_adapter can."
            )
        return AutoConfig.for_model(kind, **values)


class CoarseEncoder(nn.Module):
    """Read the states of an encoder in pairs: a transformer at half its rate.

    Word pieces are longer than letters, so that 25 Hz are enough for them at half the cost.
    """

    def __init__(self, config: Any, layers: int):
        super().__init__()
        config = copy.deepcopy(config)
        config.num_hidden_layers = layers
        self.join = nn.Linear(2 * config.hidden_size, config.hidden_size)
        self.encoder: Any = Wav2Vec2EncoderStableLayerNorm(config)

    @torch.no_grad()
    def begin(self) -> None:
        """Let it pass on the mean of each pair at first."""
        eye = torch.eye(self.join.out_features)
        self.join.weight.copy_(torch.cat([eye, eye], dim=1) / 2)
        self.join.bias.zero_()
        positions: Any = self.encoder.pos_conv_embed.conv
        positions.parametrizations.weight.original0.zero_(), positions.bias.zero_()
        for layer in self.encoder.layers:
            for linear in (layer.attention.out_proj, layer.feed_forward.output_dense):
                linear.weight.zero_(), linear.bias.zero_()

    def forward(self, hidden: Tensor, exists: Tensor) -> Tensor:
        """Turn states (batch, 2 x frames, width) into (batch, frames, width).

        Args:
            hidden: the states.
            exists: (batch, frames) bool, False on padding.
        """
        hidden = self.join(hidden.reshape(len(hidden), exists.shape[1], -1))
        output: Tensor = self.encoder(hidden, attention_mask=exists).last_hidden_state
        return output


class VQWav2Vec2ForCTC(PreTrainedModel):
    """Recognise characters in codes with CTC.

    Args:
        config: of base and embedder. To adapt an existing model, see `from_base`.

    Raises:
        RecogniserError: the base is of another family.
    """

    config_class = VQWav2Vec2Config
    config: VQWav2Vec2Config
    main_input_name = "input_values"
    _supports_sdpa = True
    supports_gradient_checkpointing = True

    def __init__(self, config: VQWav2Vec2Config):
        super().__init__(config)
        base = AutoModelForCTC.from_config(config.base_config())
        self._share(base)
        self.coarse: CoarseEncoder | None = None
        if config.coarse_layers:
            self.coarse = CoarseEncoder(base.config, config.coarse_layers)
        self.embedder = CodeEmbedder(
            CodeEmbedderConfig(**{"embed_dim": base.config.hidden_size, **config.embedder})
        )
        self.post_init()

    @classmethod
    def from_base(
        cls,
        base: PreTrainedModel,
        embedder: CodeEmbedder,
        codec_fingerprint: bytes,
        sinusoids: bool = False,
        coarse_layers: int = 0,
    ) -> "VQWav2Vec2ForCTC":
        """Adapt an existing CTC model, whose encoder and head are shared, not copied.

        Args:
            base: Wav2Vec2ForCTC, HubertForCTC or WavLMForCTC.
            embedder: codes to embeddings of the base's hidden_size.
            codec_fingerprint: 6 bytes, of the codec whose codes it reads.
            sinusoids, coarse_layers: see `VQWav2Vec2Config`. A second encoder is untrained: at
                first it passes on the mean of each pair of states.

        Raises:
            RecogniserError: the base is of another family, or the widths differ.
        """
        config = VQWav2Vec2Config(
            base.config.to_dict(), dataclasses.asdict(embedder.config), codec_fingerprint.hex(),
            sinusoids, coarse_layers,
        )  # fmt: skip
        width = config.base_config().hidden_size
        if embedder.config.embed_dim != width:
            raise RecogniserError(
                f"the embedder makes embeddings of width {embedder.config.embed_dim}, the model "
                f"reads {width}. Use an embedder with embed_dim={width}."
            )
        with torch.device("meta"):  # the weights come from `base` and `embedder`
            model = cls(config)
        model._share(base)
        model.embedder = embedder
        if coarse_layers:
            model.coarse = CoarseEncoder(base.config, coarse_layers)
            model.coarse.begin()
        return model.train(base.training)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, source: Any, *args: Any, **kwargs: Any
    ) -> "VQWav2Vec2ForCTC":
        """Load as transformers does, or a folder or hub id that `save_int8` wrote."""
        state = None if source is None else load_int8(source)
        if state is None:
            return super().from_pretrained(source, *args, **kwargs)
        config = kwargs.pop("config", None) or cls.config_class.from_pretrained(source)
        return super().from_pretrained(None, *args, config=config, state_dict=state, **kwargs)

    def save_int8(self, folder: str | os.PathLike[str], bits: int = 8) -> None:
        """Save configuration and weights as integers of up to 8 bits, packed with gzip."""
        save_int8(self, folder, bits)

    def _share(self, base: Any) -> None:
        self.encoder = getattr(base, base.base_model_prefix).encoder
        if self.config.coarse_layers:
            # The second encoder normalises. After Whisper's own norm, in which the decoder reads
            # the states, training stays at the blank (docs/lab-book.md, 2026-11-28).
            self.encoder.layer_norm = nn.Identity()
        self.dropout = base.dropout
        self.lm_head = base.lm_head
        self._base_config = base.config

    def _init_weights(self, module: nn.Module) -> None:
        """Initialise the embedder only: the base has initialised itself."""
        if isinstance(module, ResidualVQ | StreamBlock | nn.Linear | nn.LayerNorm):
            module.reset_parameters()

    def forward(
        self,
        input_values: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        return_dict: bool | None = None,
    ) -> CausalLMOutput | tuple[Any, ...]:
        """Compute logits at 50 Hz, two for each code frame; at 25 Hz after a second encoder.

        Args:
            input_values: (batch, frames, n) int codes; -1 pads, -2 marks lost frames.
            attention_mask: (batch, frames), 1 on frames that exist; None if -1 marks the padding.
            labels: (batch, characters) int, padded with -100.
            return_dict: False returns a tuple.

        Returns:
            logits (batch, 2 x frames or frames, vocabulary), with probability 1 for the blank on
            padding; the loss if there are labels.

        Raises:
            InvalidCodesError: the codes have a wrong shape or type.
        """
        if input_values.dim() != 3 or input_values.is_floating_point():
            raise InvalidCodesError(
                f"input_values have shape {tuple(input_values.shape)} and type "
                f"{input_values.dtype}; integer codes (batch, frames, num_quantizers) are needed."
            )
        codes = input_values.long().transpose(1, 2)
        if attention_mask is not None:
            codes = codes.masked_fill(attention_mask[:, None] == 0, NO_FRAME)
        output = self.read(codes, labels)
        return output.to_tuple() if return_dict is False else output

    def freeze_feature_encoder(self) -> None:
        """Freeze the embedder, which is in the place of Wav2Vec2's convolutions."""
        self.embedder.requires_grad_(False)

    def read(
        self, codes: Tensor, labels: Tensor | None = None, gated: bool = True
    ) -> CausalLMOutput:
        """Compute logits of codes (batch, n, frames) or latents, as `CodeEmbedder` takes them.

        Args:
            codes: as above.
            labels: as of `forward`.
            gated: make windows without speech blank.
        """
        hidden, exists = self.embedder.close(codes)
        # Windows without speech are blank, in which a recogniser invents words.
        shown = exists
        if gated and not self.training and labels is None:
            shown = exists & self._speech(codes, exists.shape[1])
        if labels is None and not bool(shown.any()):
            blank, step = self._blank(hidden), self._step()
            return CausalLMOutput(logits=blank.repeat(len(codes), shown[:, ::step].shape[1], 1))
        return self.read_states(self.encode(hidden, exists), exists, labels, shown)

    def encode(self, embeddings: Tensor, exists: Tensor) -> Tensor:
        """Compute the first encoder's states (batch, states, width) of embeddings.

        Args:
            embeddings: as `CodeEmbedder.close` returns them.
            exists: (batch, states) bool, False on padding.
        """
        if self.config.sinusoids:
            positions = sinusoids(embeddings.shape[1], embeddings.shape[2])
            embeddings = embeddings + positions.to(embeddings)
        states: Tensor = self.encoder(embeddings, attention_mask=exists).last_hidden_state
        return states

    def read_states(
        self,
        states: Tensor,
        exists: Tensor,
        labels: Tensor | None = None,
        shown: Tensor | None = None,
    ) -> CausalLMOutput:
        """Compute logits of the first encoder's states.

        Args:
            states, exists: as in `encode`.
            labels: as of `forward`.
            shown: (batch, states) bool, False where the logits are to be blank; None for padding.
        """
        shown = exists if shown is None else shown
        exists, shown = exists[:, :: self._step()], shown[:, :: self._step()]
        if self.coarse is not None:
            states = self.coarse(states, exists)
        logits = self.lm_head(self.dropout(states))
        loss = None if labels is None else self._loss(logits, exists, labels)
        # Decoders, transformers' pipeline among them, read the padding too: it is blank.
        logits = torch.where(shown[..., None], logits, self._blank(logits))
        return CausalLMOutput(loss=loss, logits=logits)

    def _step(self) -> int:
        """Return the number of states for each of the logits."""
        return 2 // self.config.logits_per_frame

    def _blank(self, like: Tensor) -> Tensor:
        """Return (vocabulary,) logits of the blank."""
        blank = like.new_full((self._base_config.vocab_size,), torch.finfo(like.dtype).min)
        blank[self._base_config.pad_token_id] = 0.0
        return blank

    def _speech(self, codes: Tensor, states: int) -> Tensor:
        """Return (batch, states) bool, True in windows of up to 30 s that hold speech."""
        windows = codes.split(WINDOW_FRAMES, dim=-1)
        speech = torch.stack([have_speech(self.embedder, window) for window in windows], dim=1)
        # Closing frames belong to the last window.
        window_of = torch.arange(states, device=codes.device) // (2 * WINDOW_FRAMES)
        return speech[:, window_of.clamp_max(len(windows) - 1)]

    def _loss(self, logits: Tensor, exists: Tensor, labels: Tensor) -> Tensor:
        kept = labels != IGNORED
        return F.ctc_loss(
            logits.float().log_softmax(-1).transpose(0, 1),
            labels[kept],
            exists.sum(1),
            kept.sum(1),
            blank=self._base_config.pad_token_id,
            reduction=self._base_config.ctc_loss_reduction,
            zero_infinity=self._base_config.ctc_zero_infinity,
        )

    def fingerprint(self) -> bytes:
        """Return 6 bytes that identify the weights."""
        return weights_fingerprint(self.state_dict())


def base_fingerprint(base: Any) -> bytes:
    """Return 6 bytes that identify encoder and head of a CTC model, with or without an adapter."""
    encoder = getattr(base, base.base_model_prefix).encoder
    return weights_fingerprint({**encoder.state_dict(), **base.lm_head.state_dict(prefix="head.")})
