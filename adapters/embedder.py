"""Codes -> embeddings: what stands in place of a recogniser's own front end."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqasr.codec.convolution import StreamBlock, StreamState
from vqasr.codec.quantizer import ResidualVQ
from vqasr.grid import MISSING, NO_FRAME


@dataclass(frozen=True)
class CodeEmbedderConfig:
    """Sizes of a `CodeEmbedder`.

    Attributes:
        num_quantizers, codebook_size, latent_dim: of the codec that made the codes.
        embed_dim: width of the recogniser's embeddings.
        hidden_size: inner width.
        num_layers: blocks at the codes' own 25 Hz.
        num_fine_layers: blocks at 50 Hz.
        expansion: widening inside the blocks.
        variable_depth: of the codec; code 0 then ends a frame's description.
        num_closing_frames: learned frames behind the last one, for reading without padding.
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


class CodeEmbedder(nn.Module):
    """Maps codes at 25 Hz to embeddings at 50 Hz, two for each code frame.

    It carries a copy of the codec's quantizer, so that reading a stream needs no codec. Frames that
    do not exist (code -1: padding up to the recogniser's window) and frames that were lost (code
    -2) have a learned latent each, so that the recogniser hears an end or a gap and not noise. How
    many codebooks describe a frame is an input too.
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
        # They stand for the silence that a recogniser knows behind all speech.
        self.closing_frames: nn.Parameter | None = None
        if config.num_closing_frames:
            self.closing_frames = nn.Parameter(
                torch.zeros(config.num_closing_frames, config.latent_dim)
            )
        # Row 0 is for latents that no quantizer touched.
        self.level_embedding = nn.Embedding(config.num_quantizers + 1, width)
        nn.init.zeros_(self.level_embedding.weight)
        self.from_latent = nn.Linear(config.latent_dim, width)
        self.blocks = nn.ModuleList(
            StreamBlock(width, config.expansion, right=3) for _ in range(config.num_layers)
        )
        # Reads off whether there is speech; fitted last, on frozen features.
        self.speech_head = nn.Linear(width, 1)
        self.to_50_hz = nn.Linear(width, 2 * width)
        self.fine_blocks = nn.ModuleList(
            StreamBlock(width, config.expansion, right=3) for _ in range(config.num_fine_layers)
        )
        self.norm = nn.LayerNorm(width)
        self.to_embedding = nn.Linear(width, config.embed_dim)

    def forward(self, heard: Tensor) -> Tensor:
        """Codes or latents, as `look_up` takes them -> (batch, 2 x frames, embed_dim)."""
        return self.embed_latents(*self.look_up(heard))

    def look_up(self, heard: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What a recogniser is given to what `embed_latents` takes.

        Args:
            heard: codes (batch, n, frames) int, -1 for no frame, -2 for a lost one; or unquantized
                latents (batch, latent_dim, frames) float, all zero for no frame.

        Returns:
            latents (batch, frames, latent_dim), mask (batch, frames; lost frames are True: they
            have their latent) and levels (batch, frames).
        """
        if heard.is_floating_point():
            mask = heard.any(dim=1)
            return heard.transpose(1, 2), mask, torch.zeros_like(mask, dtype=torch.long)
        real = heard[:, 0] >= 0
        levels = torch.where(real, self.quantizer.depths(heard), heard.shape[1])
        missing = heard[:, 0] == MISSING
        latents = torch.where(missing[..., None], self.missing_frame, self.quantizer.decode(heard))
        return latents, real | missing, levels

    @staticmethod
    def lengths(heard: Tensor) -> Tensor:
        """Codes or latents, as `look_up` takes them -> (batch,) frames that exist."""
        exists = heard.any(dim=1) if heard.is_floating_point() else heard[:, 0] != NO_FRAME
        return exists.sum(1)

    def add_closing_frames(self, count: int) -> None:
        """Give an embedder without closing frames some, as yet no other than padding."""
        self.config = replace(self.config, num_closing_frames=count)
        self.closing_frames = nn.Parameter(self.no_frame.detach().repeat(count, 1))

    def close(self, heard: Tensor) -> tuple[Tensor, Tensor]:
        """Embed the frames that exist and the closing frames behind them, without padding.

        Args:
            heard: codes (batch, n, frames) int, -1 behind the end of shorter items, or latents as
                `look_up` takes them.

        Returns:
            embeddings (batch, 2 x (frames + num_closing_frames), embed_dim) and a mask
            (batch, the same) bool, True where an item has embeddings.
        """
        latents, mask, levels = self.look_up(heard)
        given = levels.new_full((len(heard),), 0 if heard.is_floating_point() else heard.shape[1])
        return self.close_latents(latents, mask, levels, self.lengths(heard), given)

    def close_latents(
        self, latents: Tensor, mask: Tensor, levels: Tensor, lengths: Tensor, given: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As `close`, of what `look_up` returns.

        Args:
            latents, mask, levels: as in `embed_latents`, one level for each frame.
            lengths: (batch,) frames that exist.
            given: (batch,) codebooks that the item's frames were described with at most.
        """
        closing = self.config.num_closing_frames
        latents, mask = F.pad(latents, (0, 0, 0, closing)), F.pad(mask, (0, closing))
        levels = torch.cat([levels, given[:, None].expand(-1, closing)], dim=1)
        # How far each frame lies behind the last one that exists.
        behind = torch.arange(latents.shape[1], device=latents.device) - lengths[:, None]
        if self.closing_frames is not None:
            frames = self.closing_frames[behind.clamp(0, closing - 1)]
            latents = torch.where((behind >= 0)[..., None], frames, latents)
        exists = behind < closing
        embeddings = self.embed_latents(latents, mask | (behind >= 0), levels, exists)
        return embeddings, exists.repeat_interleave(2, dim=1)

    def embed_latents(
        self, latents: Tensor, mask: Tensor, levels: Tensor, exists: Tensor | None = None
    ) -> Tensor:
        """Embed quantized (or, with level 0, continuous) latents.

        Args:
            latents: (batch, frames, latent_dim).
            mask: (batch, frames) bool, True on real frames.
            levels: (batch, frames) or (batch, 1) int, codebooks that the latents were made of.
            exists: (batch, frames) bool, False on what is there only because another item of the
                batch is longer, and must leave no trace; None where there is no such frame.

        Returns:
            (batch, 2 x frames, embed_dim).
        """
        hidden = self.features(latents, mask, levels, exists)
        hidden = self.to_50_hz(hidden).float().reshape(len(hidden), 2 * hidden.shape[1], -1)
        if exists is not None:
            exists = exists.repeat_interleave(2, dim=1)
        hidden = self._run(self.fine_blocks, hidden, exists)
        return self.to_embedding(self.norm(hidden))

    def features(
        self, latents: Tensor, mask: Tensor, levels: Tensor, exists: Tensor | None = None
    ) -> Tensor:
        """Arguments as in `embed_latents` -> (batch, frames, hidden_size) at 25 Hz."""
        latents = torch.where(mask[..., None], latents, self.no_frame)
        hidden = self.from_latent(latents) + self.level_embedding(levels)
        return self._run(self.blocks, hidden, exists)

    def speech_probability(self, heard: Tensor) -> Tensor:
        """Codes or latents, as `look_up` takes them -> (batch, frames) probability of speech."""
        latents, mask, levels = self.look_up(heard)
        logits = self.speech_head(self.features(latents, mask, levels))[..., 0]
        if not heard.is_floating_point():
            mask = heard[:, 0] >= 0
        return logits.sigmoid() * mask

    @staticmethod
    def _run(blocks: nn.ModuleList, hidden: Tensor, exists: Tensor | None) -> Tensor:
        """Symmetric convolutions over the whole window, zeros beyond both ends."""
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
    """Put the embedding of numbers of codebooks that training never drew between its neighbours.

    Args:
        drawn: the numbers that were drawn; 0 is the unquantized latents.
    """
    known = sorted(n for n in drawn if n > 0)
    weight = embedder.level_embedding.weight
    for n in set(range(1, len(weight))) - set(known):
        below = [k for k in known if k < n] or known[:1]
        above = [k for k in known if k > n] or known[-1:]
        low, high = below[-1], above[0]
        part = 0.5 if low == high else (n - low) / (high - low)
        weight[n] = torch.lerp(weight[low], weight[high], part)
