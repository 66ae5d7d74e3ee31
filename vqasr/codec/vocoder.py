"""Codes to a waveform by a small network: ConvNeXt blocks and an inverse STFT.

After Vocos (Siuzdak 2023, arXiv 2306.00814), but causal apart from a stated look-ahead, from the
codec's latents instead of a log-mel spectrogram, and the same whole or piece by piece.
"""

import os
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from vqasr.assets import BUNDLED_VOCODERS
from vqasr.codec.convolution import StreamBlock, StreamState
from vqasr.codec.int8_weights import load_int8, save_int8
from vqasr.codec.loading import load_checked
from vqasr.grid import FRAME_RATE_HZ, HOP_LENGTH

GRIFFIN_LIM = "griffin-lim"  # name of decoding without a trained vocoder
STFT_HOP_LENGTH = 160  # samples, 10 ms
STFT_FRAMES_PER_FRAME = HOP_LENGTH // STFT_HOP_LENGTH
OVERLAP = 4  # STFT windows over each sample
N_FFT = OVERLAP * STFT_HOP_LENGTH
# Squared Hann windows of a quarter's distance sum up to this.
WINDOW_POWER = 0.375 * OVERLAP
HIGHEST_LOG_MAGNITUDE = 7.0  # a sine at full scale has log(N_FFT / 4) = 5.1


class VocoderConfig(PretrainedConfig):
    """Sizes of a `Vocoder`.

    Args:
        latent_dim: of the codec.
        hidden_size: width of the blocks at 25 Hz.
        num_layers: blocks at 25 Hz.
        fine_hidden_size: width of the blocks at 100 Hz.
        num_fine_layers: blocks at 100 Hz, without look-ahead.
        expansion: expansion factor of all blocks.
        kernel_size: of the depthwise convolutions, in frames.
        lookahead_frames: codes (40 ms each) after a frame that its audio depends on; at most
            num_layers.
        delay_frames: so many frames more go through all blocks before a frame's audio is written:
            look-ahead for every block, not for the last ones alone.
        codec_fingerprint: of the codec whose codes it decodes, hexadecimal.

    Raises:
        ValueError: the look-ahead is negative or longer than num_layers, or the delay negative.
    """

    model_type = "vqasr_vocoder"

    latent_dim: int = 64
    hidden_size: int = 224
    num_layers: int = 4
    fine_hidden_size: int = 176
    num_fine_layers: int = 5
    expansion: int = 3
    kernel_size: int = 7
    lookahead_frames: int = 1
    delay_frames: int = 0
    codec_fingerprint: str = ""

    def __post_init__(self, **kwargs: Any) -> None:
        if not 0 <= self.lookahead_frames <= self.num_layers:
            raise ValueError(
                f"lookahead_frames={self.lookahead_frames}: must be 0 to num_layers="
                f"{self.num_layers}; every block at 25 Hz can look one frame ahead."
            )
        if self.delay_frames < 0:
            raise ValueError(f"delay_frames={self.delay_frames}: must be 0 or more.")
        super().__post_init__(**kwargs)

    @property
    def frames_ahead(self) -> int:
        """Return the number of codes after a frame that its audio needs."""
        return self.lookahead_frames + self.delay_frames

    @property
    def lookahead_s(self) -> float:
        """Return the look-ahead in seconds."""
        return self.frames_ahead / FRAME_RATE_HZ


@lru_cache(maxsize=8)
def stft_window(device: torch.device) -> Tensor:
    """Return the (640,) window of analysis and synthesis."""
    return torch.hann_window(N_FFT, device=device)


class OverlapAdd(nn.Module):
    """Inverse STFT piece by piece: each window is added to the three before it."""

    def forward(self, spectrum: Tensor, state: StreamState) -> Tensor:
        """Transform (batch, frames, 321) complex to (batch, 160 x frames) samples."""
        window = stft_window(spectrum.device) / WINDOW_POWER
        if spectrum.shape[1]:
            windows = torch.fft.irfft(spectrum, N_FFT) * window
        else:  # MKL transforms no empty batch
            windows = window.new_zeros(len(spectrum), 0, N_FFT)
        buffer, outputs = state.extend(self, windows, OVERLAP - 1, OVERLAP)
        hops = buffer.unflatten(-1, (OVERLAP, STFT_HOP_LENGTH))
        # The last of the four windows begins with this hop, the first one ends with it.
        parts = [hops[:, i : i + outputs, OVERLAP - 1 - i] for i in range(OVERLAP)]
        return torch.stack(parts).sum(0).flatten(1)


class Vocoder(PreTrainedModel):
    """Decode latents of a codec to a waveform at 16 kHz.

    Args:
        config: sizes.
    """

    config_class = VocoderConfig
    config: VocoderConfig
    base_model_prefix = "vocoder"
    main_input_name = "latents"

    def __init__(self, config: VocoderConfig):
        super().__init__(config)
        width, fine_width = config.hidden_size, config.fine_hidden_size
        first_ahead = config.num_layers - config.lookahead_frames
        self.from_latent = nn.Linear(config.latent_dim, width)
        self.missing_frame = nn.Parameter(torch.zeros(config.latent_dim))
        self.blocks = nn.ModuleList(
            StreamBlock(width, config.expansion, config.kernel_size, right=int(i >= first_ahead))
            for i in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.to_100_hz = nn.Linear(width, STFT_FRAMES_PER_FRAME * fine_width)
        self.fine_blocks = nn.ModuleList(
            StreamBlock(fine_width, config.expansion, config.kernel_size, right=0)
            for _ in range(config.num_fine_layers)
        )
        self.fine_norm = nn.LayerNorm(fine_width)
        self.spectrum_head = nn.Linear(fine_width, 2 * (N_FFT // 2 + 1))
        self.overlap_add = OverlapAdd()
        self.post_init()

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, name_or_path: str | os.PathLike[str], *args: Any, **kwargs: Any
    ) -> "Vocoder":
        """Load a vocoder in float32.

        Args:
            name_or_path: "vqasr-base-vocoder" (ships with the package), a folder or a hub id.

        Raises:
            CodecError: it cannot be found, or is no complete vocoder.
        """
        kwargs["dtype"] = torch.float32
        advice = f"{BUNDLED_VOCODERS[0]} (bundled), {GRIFFIN_LIM}, a folder or a hub id"
        parent: Any = super()

        def load(source: str, *args: Any, **kwargs: Any) -> Any:
            state = load_int8(source)
            if state is None:
                return parent.from_pretrained(source, *args, **kwargs)
            config = VocoderConfig.from_pretrained(source)
            if not config.codec_fingerprint:
                raise ValueError("config.json names no codec: it is no vocoder's")
            return parent.from_pretrained(None, *args, config=config, state_dict=state, **kwargs)

        model: Vocoder = load_checked(load, "vocoder", advice, name_or_path, *args, **kwargs)
        return model.eval()

    def save_int8(self, folder: str | os.PathLike[str]) -> None:
        """Save configuration and weights, with one byte per weight."""
        save_int8(self, folder)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, StreamBlock | nn.Linear | nn.LayerNorm):
            module.reset_parameters()

    def forward(self, latents: Tensor, lost: Tensor | None = None) -> Tensor:
        """Decode whole clips.

        Args:
            latents: (batch, frames, latent_dim) float32, as `ResidualVQ.decode` returns them.
            lost: (batch, frames) bool, True on lost frames, whose audio is guessed; None for none.

        Returns:
            (batch, 640 x frames) float32 at 16 kHz.
        """
        config = self.config
        latents = F.pad(self.conceal(latents, lost), (0, 0, 1, config.frames_ahead))
        return self.step(latents, StreamState())[:, HOP_LENGTH * (1 + config.delay_frames) :]

    def conceal(self, latents: Tensor, lost: Tensor | None) -> Tensor:
        """Replace (batch, frames, latent_dim) latents of lost frames (batch, frames) bool."""
        if lost is None:
            return latents
        return torch.where(lost[..., None], self.missing_frame, latents)

    def step(self, latents: Tensor, state: StreamState) -> Tensor:
        """Decode the next latents of a clip to the samples that become complete.

        The clip must begin with a frame of zeros, whose samples are to be dropped: windows before
        the first sample reach into it.
        """
        hidden = self.from_latent(latents).float()
        for block in self.blocks:
            hidden = block(hidden, state)
        hidden = self.to_100_hz(self.norm(hidden))
        hidden = hidden.reshape(len(hidden), -1, self.config.fine_hidden_size).float()
        for block in self.fine_blocks:
            hidden = block(hidden, state)
        magnitude, phase = self.spectrum_head(self.fine_norm(hidden)).float().chunk(2, dim=-1)
        magnitude = magnitude.clamp_max(HIGHEST_LOG_MAGNITUDE).exp()
        return self.overlap_add(torch.polar(magnitude, phase), state)


@lru_cache(maxsize=1)
def _bundled() -> list[Vocoder]:
    return [Vocoder.from_pretrained(name) for name in BUNDLED_VOCODERS]


def load_vocoder(
    vocoder: str | os.PathLike[str] | Vocoder | None, codec_fingerprint: bytes
) -> Vocoder | None:
    """Return a vocoder itself, or load it.

    Args:
        vocoder: loaded, or its name, folder or hub id; None for the one that ships for the codec,
            if one does; "griffin-lim" for none.
        codec_fingerprint: 6 bytes.

    Raises:
        CodecError: it cannot be loaded.
    """
    if vocoder is None:
        own = codec_fingerprint.hex()
        return next((v for v in _bundled() if v.config.codec_fingerprint == own), None)
    if isinstance(vocoder, Vocoder):
        return vocoder
    return None if str(vocoder) == GRIFFIN_LIM else Vocoder.from_pretrained(vocoder)


class LiveVocoder:
    """Decode one clip piece by piece to the samples of `Vocoder.forward`.

    The samples of a frame are complete when the codes of `frames_ahead` more have come in.

    Args:
        vocoder: in evaluation mode.
    """

    def __init__(self, vocoder: Vocoder):
        self._vocoder, self._state = vocoder, StreamState()
        self._begun = False
        # Samples to drop, before the clip.
        self._early = HOP_LENGTH * (1 + vocoder.config.delay_frames)

    @torch.no_grad()
    def push(self, latents: Tensor, lost: Tensor | None = None) -> Tensor:
        """Decode the next (frames, latent_dim) latents; return the (samples,) that are complete.

        Args:
            latents: of the next frames.
            lost: (frames,) bool, True on lost frames.
        """
        latents = self._vocoder.conceal(latents, lost)
        if not self._begun:
            latents, self._begun = F.pad(latents, (0, 0, 1, 0)), True
        samples = self._vocoder.step(latents[None], self._state)[0]
        dropped = min(self._early, len(samples))
        self._early -= dropped
        return samples[dropped:]

    def finish(self) -> Tensor:
        """End the clip; return the (samples,) that waited for look-ahead."""
        config = self._vocoder.config
        return self.push(torch.zeros(config.frames_ahead, config.latent_dim))
