"""Embed codes, in place of a recogniser's own front end."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqasr.codec.convolution import StreamBlock, StreamState
from vqasr.codec.quantizer import ResidualVQ
from vqasr.errors import InvalidCodesError
from vqasr.grid import MISSING, NO_FRAME


@dataclass(frozen=True)
class CodeEmbedderConfig:
    """Set the sizes of a `CodeEmbedder`.

    Attributes:
        num_quantizers, codebook_size, latent_dim, variable_depth: of the codec.
        embed_dim: width of the recogniser's embeddings.
        hidden_size: width of the blocks.
        num_layers: number of blocks at 25 Hz, the frame rate of codes.
        num_fine_layers: number of blocks at 50 Hz.
        expansion: factor by which blocks are wider inside.
        num_closing_frames: learned frames after the last one, for reading without padding.
    """

    num_quantizers: int
    codebook_size: int
    latent_dim: int
    embed_dim: int
    hidden_size: int = 256
    num_layers: int = 3
    num_fine_layers: int = 1
    expansion: int = 2
    variable_depth: bool = False
    num_closing_frames: int = 0


class SpeechHead(nn.Linear):
    """Logistic regression for speech; before it is fitted, everything is speech."""

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        nn.init.constant_(self.bias, 10.0)


class CodeEmbedder(nn.Module):
    """Map codes at 25 Hz to embeddings at 50 Hz, two for each frame.

    A copy of the codec's quantizer makes the codec itself unnecessary. Padding (code -1) and lost
    frames (code -2) have a learned latent each, and the number of codebooks of a frame is an input.
    Methods that take codes take unquantized latents too, see `look_up`.
    """

    def __init__(self, config: CodeEmbedderConfig):
        super().__init__()
        self.config = config
        width = config.hidden_size
        self.quantizer = ResidualVQ(
            config.num_quantizers, config.codebook_size, config.latent_dim, config.variable_depth
        )
        self.no_frame = nn.Parameter(torch.zeros(config.latent_dim))
        self.missing_frame = nn.Parameter(torch.zeros(config.latent_dim))
        # In place of the silence with which Whisper's own input ends.
        self.closing_frames: nn.Parameter | None = None
        if config.num_closing_frames:
            self.closing_frames = nn.Parameter(
                torch.zeros(config.num_closing_frames, config.latent_dim)
            )
        # Row 0 is for unquantized latents.
        self.level_embedding = nn.Embedding(config.num_quantizers + 1, width)
        nn.init.zeros_(self.level_embedding.weight)
        self.from_latent = nn.Linear(config.latent_dim, width)
        self.blocks = nn.ModuleList(
            StreamBlock(width, config.expansion, right=3) for _ in range(config.num_layers)
        )
        self.speech_head = SpeechHead(width, 1)
        self.to_50_hz = nn.Linear(width, 2 * width)
        self.fine_blocks = nn.ModuleList(
            StreamBlock(width, config.expansion, right=3) for _ in range(config.num_fine_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.to_embedding = nn.Linear(width, config.embed_dim)

    def forward(self, codes: Tensor) -> Tensor:
        """Embed codes or latents: (batch, 2 x frames, embed_dim)."""
        return self.embed_latents(*self.look_up(codes))

    def look_up(self, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Look codes up in the codebooks.

        Args:
            codes: (batch, n, frames) int, -1 for padding, -2 for lost frames; or unquantized
                latents (batch, latent_dim, frames) float, zeros for padding.

        Returns:
            latents (batch, frames, latent_dim); mask (batch, frames) bool, False on padding; and
            levels (batch, frames) int, as in `embed_latents`.
        """
        if codes.is_floating_point():
            mask = codes.any(dim=1)
            return codes.transpose(1, 2), mask, torch.zeros_like(mask, dtype=torch.long)
        real = codes[:, 0] >= 0
        levels = torch.where(real, self.quantizer.depths(codes), codes.shape[1])
        missing = codes[:, 0] == MISSING
        latents = torch.where(missing[..., None], self.missing_frame, self.quantizer.decode(codes))
        return latents, real | missing, levels

    @staticmethod
    def lengths(codes: Tensor) -> Tensor:
        """Count the frames of codes or latents without padding: (batch,).

        Raises:
            InvalidCodesError: the padding of codes is not on the right.
        """
        if codes.is_floating_point():
            return codes.any(dim=1).sum(1)
        exists = codes[:, 0] != NO_FRAME
        if bool((exists[:, 1:] & ~exists[:, :-1]).any()):
            raise InvalidCodesError(
                "codes follow padding (-1, or 0 in the attention mask): it must be on the right."
            )
        return exists.sum(1)

    def close(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Embed codes or latents and the closing frames after them, without padding.

        Returns:
            embeddings (batch, 2 x (frames + num_closing_frames), embed_dim) and a mask
            (batch, the same) bool, True where an item has embeddings.
        """
        latents, mask, levels = self.look_up(codes)
        depth = levels.new_full((len(codes),), 0 if codes.is_floating_point() else codes.shape[1])
        return self.close_latents(latents, mask, levels, self.lengths(codes), depth)

    def close_latents(
        self, latents: Tensor, mask: Tensor, levels: Tensor, lengths: Tensor, depth: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Embed latents and the closing frames after them; returns as `close`.

        Args:
            latents, mask, levels: as `look_up` returns them.
            lengths: (batch,) number of frames of each item.
            depth: (batch,) largest number of codebooks of each item's frames.
        """
        closing = self.config.num_closing_frames
        latents, mask = F.pad(latents, (0, 0, 0, closing)), F.pad(mask, (0, closing))
        levels = torch.cat([levels, depth[:, None].expand(-1, closing)], dim=1)
        # Index of each frame from the end of its item: 0 is the first closing frame.
        after_end = torch.arange(latents.shape[1], device=latents.device) - lengths[:, None]
        if self.closing_frames is not None:
            frames = self.closing_frames[after_end.clamp(0, closing - 1)]
            latents = torch.where((after_end >= 0)[..., None], frames, latents)
        exists = after_end < closing
        embeddings = self.embed_latents(latents, mask | (after_end >= 0), levels, exists)
        return embeddings, exists.repeat_interleave(2, dim=1)

    def embed_latents(
        self, latents: Tensor, mask: Tensor, levels: Tensor, exists: Tensor | None = None
    ) -> Tensor:
        """Embed latents.

        Args:
            latents: (batch, frames, latent_dim), quantized or not.
            mask: (batch, frames) bool, False on frames that become the padding latent.
            levels: (batch, frames) or (batch, 1) int, number of codebooks; 0 for unquantized.
            exists: (batch, frames) bool, False on padding of the batch, which must not affect
                other frames; None without such padding.

        Returns:
            (batch, 2 x frames, embed_dim).
        """
        hidden = self.features(latents, mask, levels, exists)
        # Autocast makes it half precision; the weights keep theirs.
        hidden = self.to_50_hz(hidden).to(self.no_frame.dtype)
        hidden = hidden.reshape(len(hidden), 2 * hidden.shape[1], -1)
        if exists is not None:
            exists = exists.repeat_interleave(2, dim=1)
        hidden = self._run(self.fine_blocks, hidden, exists)
        return self.to_embedding(self.norm(hidden))

    def features(
        self, latents: Tensor, mask: Tensor, levels: Tensor, exists: Tensor | None = None
    ) -> Tensor:
        """Compute features (batch, frames, hidden_size) at 25 Hz; arguments as `embed_latents`."""
        latents = torch.where(mask[..., None], latents.to(self.no_frame.dtype), self.no_frame)
        hidden = self.from_latent(latents) + self.level_embedding(levels)
        return self._run(self.blocks, hidden, exists)

    def speech_probability(self, codes: Tensor) -> Tensor:
        """Estimate the probability of speech in each frame of codes or latents: (batch, frames)."""
        latents, mask, levels = self.look_up(codes)
        logits = self.speech_head(self.features(latents, mask, levels, exists=mask))[..., 0]
        if not codes.is_floating_point():
            mask = codes[:, 0] >= 0
        return logits.sigmoid() * mask

    @staticmethod
    def _run(blocks: nn.ModuleList, hidden: Tensor, exists: Tensor | None) -> Tensor:
        """Convolve symmetrically over the window, with zeros beyond both ends."""
        if exists is None:
            hidden = F.pad(hidden, (0, 0, 0, 3 * len(blocks)))
            state = StreamState()
            for block in blocks:
                hidden = block(hidden, state)
            return hidden
        for block in blocks:
            hidden = F.pad(hidden * exists[..., None], (0, 0, 0, 3))
            hidden = block(hidden, StreamState())
        return hidden


@torch.no_grad()
def fill_undrawn_levels(embedder: CodeEmbedder, drawn: list[int]) -> None:
    """Interpolate level embeddings of numbers of codebooks that training never drew.

    Args:
        embedder: changed in place.
        drawn: numbers of codebooks that were drawn; 0 for unquantized latents.
    """
    known = sorted(n for n in drawn if n > 0)
    weight = embedder.level_embedding.weight
    for n in set(range(1, len(weight))) - set(known):
        below = [k for k in known if k < n] or known[:1]
        above = [k for k in known if k > n] or known[-1:]
        low, high = below[-1], above[0]
        part = 0.5 if low == high else (n - low) / (high - low)
        weight[n] = torch.lerp(weight[low], weight[high], part)
