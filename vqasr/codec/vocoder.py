"""Codes to a waveform by a small network: source and filter, joined by an inverse STFT.

ConvNeXt blocks predict the fundamental frequency, and the gains of harmonics and noise in each bin
of the STFT: the blocks and the inverse STFT after Vocos (Siuzdak 2023, arXiv 2306.00814), the
source and its filter after the neural source-filter model (Wang, Takaki and Yamagishi 2019, arXiv
1904.12088). Causal apart from a stated look-ahead, from the codec's latents instead of a log-mel
spectrogram, and the same whole or piece by piece.
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
from vqasr.codec.excitation import Harmonics, Noise, minimum_phase
from vqasr.codec.int8_weights import load_int8, save_int8
from vqasr.codec.loading import load_checked
from vqasr.codec.mel import hann_window
from vqasr.codec.pitch_hops import PitchHops
from vqasr.grid import FINE_HOP_LENGTH, FRAME_RATE_HZ, HOP_LENGTH, HOPS_PER_FRAME

GRIFFIN_LIM = "griffin-lim"  # name of decoding without a trained vocoder
OVERLAP = 4  # STFT windows over each sample
N_FFT = OVERLAP * FINE_HOP_LENGTH
# Squared Hann windows of a quarter's distance sum up to this.
WINDOW_POWER = 0.375 * OVERLAP
HIGHEST_LOG_GAIN = 2.0  # a harmonic at full scale has 0
# The network predicts octaves from this, in the range of a voice.
MIDDLE_PITCH_HZ = 150.0
PITCH_OCTAVES = (-1.32, 1.73)  # 60 to 500 Hz
# The excitation of a window's end is made when its beginning is written.
HOPS_AHEAD = OVERLAP - 1
# The pitch of the excitation is interpolated, for which it needs this many frames.
PITCH_FRAMES_AHEAD = 2


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


class OverlapAdd(nn.Module):
    """Inverse STFT piece by piece: each window is added to the three before it."""

    def forward(self, spectrum: Tensor, state: StreamState) -> Tensor:
        """Transform (batch, frames, 321) complex to (batch, 160 x frames) samples."""
        window = hann_window(spectrum.device, N_FFT) / WINDOW_POWER
        windows = torch.fft.irfft(spectrum, N_FFT) * window
        buffer, outputs = state.extend(self, windows, HOPS_AHEAD, OVERLAP)
        hops = buffer.unflatten(-1, (OVERLAP, FINE_HOP_LENGTH))
        # The last of the four windows begins with this hop, the first one ends with it.
        parts = [hops[:, i : i + outputs, HOPS_AHEAD - i] for i in range(OVERLAP)]
        return torch.stack(parts).sum(0).flatten(1)


class Excitation(nn.Module):
    """STFT of harmonics and noise, piece by piece."""

    def __init__(self) -> None:
        super().__init__()
        self.harmonics, self.noise = Harmonics(), Noise()

    def forward(self, pitch_hz: Tensor, state: StreamState) -> tuple[Tensor, Tensor]:
        """Make spectra (batch, hops, 321) of harmonics and noise; window i ends with hop i."""
        harmonics = self.harmonics(pitch_hz, state)
        noise = self.noise(pitch_hz.shape[1], pitch_hz, state)
        samples = torch.stack([harmonics, noise], -1)
        buffer, _ = state.extend(
            self, samples, HOPS_AHEAD * FINE_HOP_LENGTH, N_FFT, FINE_HOP_LENGTH
        )
        windows = buffer.unfold(1, N_FFT, FINE_HOP_LENGTH) * hann_window(buffer.device, N_FFT)
        spectra = torch.fft.rfft(windows)  # (batch, hops, 2, bins)
        return spectra[:, :, 0], spectra[:, :, 1]


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
        self.to_100_hz = nn.Linear(width, HOPS_PER_FRAME * fine_width)
        self.fine_blocks = nn.ModuleList(
            StreamBlock(fine_width, config.expansion, config.kernel_size, right=0)
            for _ in range(config.num_fine_layers)
        )
        self.fine_norm = nn.LayerNorm(fine_width)
        self.pitch_head = nn.Linear(fine_width, 1)
        self.gain_head = nn.Linear(fine_width, 2 * (N_FFT // 2 + 1))
        self.excitation, self.overlap_add = Excitation(), OverlapAdd()
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
        return self.decode(latents, lost)[0]

    def decode(
        self, latents: Tensor, lost: Tensor | None = None, pitch_hz: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Decode whole clips as `forward` does, also with a known fundamental frequency.

        Args:
            latents: (batch, frames, latent_dim) float32.
            lost: (batch, frames) bool, or None.
            pitch_hz: (batch, 4 x frames), of each 10 ms; None for the predicted one.

        Returns:
            samples (batch, 640 x frames) float32 and predicted pitch (batch, 4 x frames) float32 in
            octaves over 150 Hz.
        """
        config = self.config
        early = HOPS_PER_FRAME * (1 + config.delay_frames) - HOPS_AHEAD
        if pitch_hz is not None:
            pitch_hz = F.pad(pitch_hz[:, None], (early, HOPS_AHEAD), mode="replicate")[:, 0]
        latents = F.pad(self.conceal(latents, lost), (0, 0, 1, config.frames_ahead))
        samples, octaves = self.step(latents, StreamState(), pitch_hz)
        octaves = octaves[:, early : octaves.shape[1] - HOPS_AHEAD]
        return samples[:, HOP_LENGTH * (1 + config.delay_frames) :], octaves

    def conceal(self, latents: Tensor, lost: Tensor | None) -> Tensor:
        """Replace (batch, frames, latent_dim) latents of lost frames (batch, frames) bool."""
        if lost is None:
            return latents
        return torch.where(lost[..., None], self.missing_frame, latents)

    def step(
        self, latents: Tensor, state: StreamState, pitch_hz: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Decode the next latents of a clip to the samples that become complete.

        The clip must begin with a frame of zeros, whose samples are to be dropped: windows before
        the first sample reach into it.

        Args:
            latents: (batch, frames, latent_dim).
            state: of the clip.
            pitch_hz: instead of the predicted pitch.

        Returns:
            samples (batch, 160 x hops), and the predicted pitch (batch, hops) of the sample
            `HOPS_AHEAD` hops later, in octaves over 150 Hz.
        """
        hidden = self.from_latent(latents).float()
        for block in self.blocks:
            hidden = block(hidden, state)
        hidden = self.to_100_hz(self.norm(hidden))
        hidden = hidden.reshape(len(hidden), -1, self.config.fine_hidden_size).float()
        for block in self.fine_blocks:
            hidden = block(hidden, state)
        hidden = self.fine_norm(hidden)
        octaves = self.pitch_head(hidden).float()[..., 0]
        if not octaves.shape[1]:  # MKL transforms no empty batch
            return octaves, octaves
        if pitch_hz is None:
            pitch_hz = MIDDLE_PITCH_HZ * torch.exp2(octaves.detach().clamp(*PITCH_OCTAVES))
        harmonics, noise = self.excitation(pitch_hz, state)
        voice, breath = self.gain_head(hidden).float().clamp_max(HIGHEST_LOG_GAIN).chunk(2, dim=-1)
        filtered = harmonics * torch.polar(voice.exp(), minimum_phase(voice))
        return self.overlap_add(filtered + noise * breath.exp(), state), octaves


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
        self._pitch: PitchHops | None = None
        self._frames = 0  # that went in, the one before the clip included
        # Samples to drop, before the clip.
        self._early = HOP_LENGTH * (1 + vocoder.config.delay_frames)

    @torch.no_grad()
    def push(
        self, latents: Tensor, lost: Tensor | None = None, pitch: Tensor | None = None
    ) -> Tensor:
        """Decode the next (frames, latent_dim) latents; return the (samples,) that are complete.

        Args:
            latents: of the next frames.
            lost: (frames,) bool, True on lost frames.
            pitch: (frames,) int codes of the fundamental frequency, for all pieces of a clip or for
                none: None predicts it, as vocoders with less than 80 ms of look-ahead always do.
        """
        latents = self._vocoder.conceal(latents, lost)
        if not self._begun:
            latents, self._begun = F.pad(latents, (0, 0, 1, 0)), True
            if pitch is not None and self._vocoder.config.frames_ahead >= PITCH_FRAMES_AHEAD:
                self._pitch = PitchHops()
        hops_hz = None
        if self._pitch is not None:
            if pitch is not None:
                self._pitch.push(pitch)
            hops_hz = self._next_pitch(len(latents))[None]
        samples = self._vocoder.step(latents[None], self._state, hops_hz)[0][0]
        dropped = min(self._early, len(samples))
        self._early -= dropped
        return samples[dropped:]

    def _next_pitch(self, frames: int) -> Tensor:
        """Return the pitch of the hops that these further frames complete, for `Vocoder.step`."""
        config = self._vocoder.config
        done, self._frames = self._frames, self._frames + frames
        early = HOPS_PER_FRAME * (1 + config.delay_frames) - HOPS_AHEAD
        first, last = (
            HOPS_PER_FRAME * max(0, count - config.lookahead_frames) - early
            for count in (done, self._frames)
        )
        assert self._pitch is not None  # for the type checker
        return self._pitch.take(first, last)

    def finish(self) -> Tensor:
        """End the clip; return the (samples,) that waited for look-ahead."""
        config = self._vocoder.config
        return self.push(torch.zeros(config.frames_ahead, config.latent_dim))
