"""The codec: 16 kHz speech -> codes at 25 Hz -> log-mel -> speech."""

import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel
from transformers.modeling_utils import PreTrainedAudioTokenizerBase
from transformers.utils.generic import ModelOutput

from vqasr.codec.configuration import VQCodecConfig
from vqasr.codec.convolution import StreamBlock, StreamConv, StreamState
from vqasr.codec.feature_extraction import VQCodecFeatureExtractor
from vqasr.codec.griffin_lim import log_mel_to_audio
from vqasr.codec.loading import load_checked
from vqasr.codec.mel import N_MELS, LogMel
from vqasr.codec.quantizer import ResidualVQ
from vqasr.errors import AudioError, CodecError, InvalidCodesError
from vqasr.fingerprint import weights_fingerprint
from vqasr.grid import HOPS_PER_FRAME


@dataclass
class VQCodecEncoderOutput(ModelOutput):
    """Codes of a batch.

    Attributes:
        audio_codes: (batch, num_quantizers, frames) int64; -1 where an item has no frame.
        audio_codes_mask: (batch, frames) bool, True on real frames.
    """

    audio_codes: torch.LongTensor | None = None
    audio_codes_mask: torch.BoolTensor | None = None


@dataclass
class VQCodecDecoderOutput(ModelOutput):
    """Decoded audio.

    Attributes:
        audio_values: (batch, 1, samples) float32 at 16 kHz.
    """

    audio_values: torch.FloatTensor | None = None


@dataclass
class VQCodecOutput(ModelOutput):
    """Codes and the audio decoded from them; fields as in the other two outputs."""

    audio_codes: torch.LongTensor | None = None
    audio_values: torch.FloatTensor | None = None


class VQCodecEncoder(nn.Module):
    """Samples to latents at 25 Hz, with bounded past and `config.lookahead_samples` ahead."""

    def __init__(self, config: VQCodecConfig):
        super().__init__()
        width = config.hidden_size
        self.config = config
        self.log_mel = LogMel()
        self.stem = StreamConv(N_MELS, width // 2, kernel=3, left=1)
        self.to_50_hz = StreamConv(width // 2, width, kernel=4, left=1, stride=2)
        self.fine_blocks = nn.ModuleList(
            StreamBlock(width, config.fine_expansion, config.kernel_size)
            for _ in range(config.num_fine_layers)
        )
        self.to_25_hz = StreamConv(width, width, kernel=4, left=1, stride=2)
        self.blocks = nn.ModuleList(
            StreamBlock(width, config.expansion, config.kernel_size)
            for _ in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.to_latent = nn.Linear(width, config.latent_dim)

    def features(self, samples: Tensor, state: StreamState | None = None) -> Tensor:
        """Encode samples as `forward` does, to (batch, frames, hidden_size)."""
        if state is None:
            length = samples.shape[-1]
            samples = F.pad(samples, (0, self.config.padded_samples(length) - length))
            state = StreamState()
        hidden = self.log_mel(samples, state)
        hidden = F.gelu(self.stem(hidden, state))
        hidden = self.to_50_hz(hidden, state).float()  # under autocast, sums stay float32
        for block in self.fine_blocks:
            hidden = block(hidden, state)
        hidden = self.to_25_hz(hidden, state).float()
        for block in self.blocks:
            hidden = block(hidden, state)
        return self.norm(hidden)

    def forward(self, samples: Tensor, state: StreamState | None = None) -> Tensor:
        """Encode samples to latents.

        Args:
            samples: (batch, samples), zero-padded whole clips or, with a state, the next chunk.
            state: of the streams; is updated.

        Returns:
            (batch, frames, latent_dim), the frames that are complete.
        """
        return self.to_latent(self.features(samples, state))


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
        self.mel_head = nn.Linear(width, HOPS_PER_FRAME * N_MELS)

    def forward(self, latents: Tensor) -> Tensor:
        """Decode (batch, frames, latent_dim) to log-mel (batch, 4 x frames, 80)."""
        hidden = self.from_latent(F.pad(latents, (0, 0, 0, self.right))).float()
        state = StreamState()
        for block in self.blocks:
            hidden = block(hidden, state)
        mel = self.mel_head(self.norm(hidden))
        return mel.reshape(mel.shape[0], -1, N_MELS)


class VQCodecModel(PreTrainedAudioTokenizerBase):
    """VQ autoencoder of speech, after the conventions of transformers' Mimi.

    The model defines its codes in float32, so `from_pretrained` converts all weights to float32.
    """

    config_class = VQCodecConfig
    config: VQCodecConfig
    base_model_prefix = "vqcodec"
    main_input_name = "input_values"

    def __init__(self, config: VQCodecConfig):
        super().__init__(config)
        self.encoder = VQCodecEncoder(config)
        self.quantizer = ResidualVQ(
            config.num_quantizers, config.codebook_size, config.latent_dim, config.variable_depth,
            config.base_dim,
        )  # fmt: skip
        self.mel_decoder = VQCodecMelDecoder(config)
        self._fingerprint: tuple[list[object], bytes] | None = None
        self.post_init()

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, name_or_path: str | os.PathLike[str] = "vqasr-base", *args: Any, **kwargs: Any
    ) -> "VQCodecModel":
        """Load a codec.

        Args:
            name_or_path: `"vqasr-base"` (ships with the package, no network), a folder or a hub id.

        Raises:
            CodecError: it cannot be found, or is no complete vqasr codec.
        """
        if kwargs.get("dtype", "auto") == "auto":  # what the Auto classes pass
            kwargs["dtype"] = torch.float32
        advice = "the bundled vqasr-base, a folder or a hub id"
        load = super().from_pretrained
        model: VQCodecModel = load_checked(load, "codec", advice, name_or_path, *args, **kwargs)
        return model

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, ResidualVQ | StreamBlock | nn.Linear | nn.LayerNorm):
            module.reset_parameters()

    def encode(
        self,
        input_values: Tensor,
        padding_mask: Tensor | None = None,
        num_quantizers: int | None = None,
    ) -> VQCodecEncoderOutput:
        """Encode whole clips with the nearest codes (`vqasr.compress` weighs them against bits).

        Args:
            input_values: (batch, 1, samples) or (batch, samples) float at 16 kHz.
            padding_mask: (batch, samples), 1 on real samples, padded on the right.
            num_quantizers: codebooks to use, 1 to config.num_quantizers; None for all.

        Returns:
            codes and their mask; an item has ceil(samples / hop_length) frames.

        Raises:
            InvalidCodesError: `num_quantizers` is out of range.
            AudioError: `input_values` or `padding_mask` has another shape, samples are NaN or
                infinite, or the padding is not on the right.
            CodecError: the model is not in float32.
        """
        num_quantizers = self.config.check_num_quantizers(num_quantizers)
        latents, mask = self.encode_latents(input_values, padding_mask)
        codes = self.quantizer.encode(latents, num_quantizers)
        codes = codes.masked_fill(~mask[:, None], -1)
        return VQCodecEncoderOutput(codes, mask)  # type: ignore[arg-type]

    def encode_latents(
        self, input_values: Tensor, padding_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Encode as `encode` does, without the quantizer.

        Returns:
            latents (batch, frames, latent_dim) and mask (batch, frames) bool.
        """
        mono = input_values.dim() == 3 and input_values.shape[1] == 1
        samples = input_values[:, 0] if mono else input_values
        if samples.dim() != 2:
            raise AudioError(
                f"input_values has shape {tuple(input_values.shape)}; must be mono, "
                "(batch, 1, samples). VQCodecFeatureExtractor makes such batches."
            )
        samples = samples.float()
        lengths = torch.full((samples.shape[0],), samples.shape[1], device=samples.device)
        if padding_mask is not None:
            mask = _checked_padding(padding_mask, samples)
            lengths = mask.sum(-1)
            samples = samples.masked_fill(~mask, 0.0)
        if not bool(samples.isfinite().all()):
            raise AudioError("input_values hold NaN or infinite samples, which cannot be encoded.")
        with self.exact():
            latents = self.encoder(samples)
        frames = -(-lengths // self.config.hop_length)
        mask = torch.arange(latents.shape[1], device=samples.device)[None] < frames[:, None]
        return latents, mask

    def exact(self) -> torch.autocast:
        """Compute in float32 within a `with` statement, also under autocast.

        Raises:
            CodecError: the weights have another type: the codes would differ.
        """
        if self.dtype != torch.float32:
            raise CodecError(
                f"the codec is in {self.dtype}, but its codes are defined in float32: call .float()"
                ", or load it without dtype."
            )
        return torch.autocast(self.device.type, enabled=False)

    def decode_mel(self, audio_codes: Tensor) -> Tensor:
        """Decode (batch, n, frames) codes to log-mel (batch, 4 x frames, 80) in Whisper's scale."""
        return self.mel_decoder(self.quantizer.decode(self._checked_codes(audio_codes)))

    def decode(self, audio_codes: Tensor, samples: int | None = None) -> VQCodecDecoderOutput:
        """Decode codes to audio through log-mel and Griffin-Lim.

        Args:
            audio_codes: (batch, n, frames) int, n <= config.num_quantizers; -1 for no frame.
            samples: length to which the audio is cut; None for frames x hop_length.

        Returns:
            audio_values (batch, 1, samples) float32.

        Raises:
            InvalidCodesError: shape, type or range of the codes is wrong.
        """
        audio = log_mel_to_audio(self.decode_mel(audio_codes))
        return VQCodecDecoderOutput(audio[:, None, :samples])  # type: ignore[arg-type]

    def forward(
        self,
        input_values: Tensor,
        padding_mask: Tensor | None = None,
        num_quantizers: int | None = None,
    ) -> VQCodecOutput:
        """Encode and decode; arguments as in `encode`."""
        codes = self.encode(input_values, padding_mask, num_quantizers).audio_codes
        assert codes is not None  # for the type checker; encode always sets it
        return VQCodecOutput(codes, self.decode(codes).audio_values)

    def _checked_codes(self, codes: Tensor) -> Tensor:
        if codes.dim() != 3 or codes.is_floating_point():
            raise InvalidCodesError(
                f"audio_codes has shape {tuple(codes.shape)} and type {codes.dtype}; must be int, "
                "(batch, num_quantizers, frames)."
            )
        self.config.check_num_quantizers(codes.shape[1])
        size = self.config.codebook_size
        if codes.numel() and (codes.min() < -1 or codes.max() >= size):
            raise InvalidCodesError(
                f"audio_codes range from {codes.min()} to {codes.max()}; must be 0 to {size - 1} "
                "(-1 for no frame). Were they made by another codec?"
            )
        return codes

    def fingerprint(self) -> bytes:
        """Return 6 bytes that identify encoder and quantizer, unchanged by saving in float16.

        The log-mel decoder is left out: training it further keeps streams readable.
        """
        tensors = {n: t for n, t in self.state_dict().items() if not n.startswith("mel_decoder.")}
        # Hashing takes a sixth of the time of encoding an utterance, so that it is done again only
        # if the weights may have changed. Changes through .data are seen by the sum alone.
        state: list[object] = [
            (t.data_ptr(), 0 if t.is_inference() else t._version, float(t.sum()))
            for t in tensors.values()
        ]
        if self._fingerprint is None or self._fingerprint[0] != state:
            context = f"vqcodec {self.config.hop_length} {self.config.kernel_size}"
            self._fingerprint = (state, weights_fingerprint(tensors, context))
        return self._fingerprint[1]


def _checked_padding(padding_mask: Tensor, samples: Tensor) -> Tensor:
    """Return the mask as (batch, samples) bool; raise AudioError unless it pads on the right."""
    if padding_mask.numel() != samples.numel():
        raise AudioError(
            f"padding_mask has shape {tuple(padding_mask.shape)}; must be {tuple(samples.shape)}."
        )
    mask = padding_mask.reshape(samples.shape).bool()
    if bool((mask[:, 1:] & ~mask[:, :-1]).any()):
        raise AudioError(
            "padding_mask has a 1 after a 0: padding must be on the right. Set the feature "
            'extractor\'s padding_side to "right".'
        )
    return mask


# Lets transformers' Auto classes load a codec by its folder or hub id.
AutoConfig.register(VQCodecConfig.model_type, VQCodecConfig)
AutoModel.register(VQCodecConfig, VQCodecModel)
AutoFeatureExtractor.register(VQCodecConfig, VQCodecFeatureExtractor)
