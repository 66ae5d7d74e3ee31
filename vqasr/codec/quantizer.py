"""Residual vector quantization: each codebook quantizes the residual of the ones before it.

With variable depth, frames may stop early: code 0 of every codebook but the first is a vector of
zeros, which adds nothing and which the code prior learns to expect.

Written by hand: the residual quantizers of transformers cannot stop single frames early or restrict
codebooks to some dimensions, and all but DAC's (learned by gradients) only encode and decode.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vqasr.codec.nearest import kmeans, nearest
from vqasr.grid import STOP

# Bounds the (frames, codebook_size) distance matrix to some 32 MB for clips of any length.
_SEARCH_FRAMES = 8192
# Codebooks restricted to the base dimensions.
BASE_CODEBOOKS = 2
# A code used less than this share of its codebook's mean use is moved onto a frame of the batch,
# with this share of the mean as its new count.
REVIVE_BELOW, REVIVED_COUNT = 0.03, 0.3


@dataclass
class QuantizerOutput:
    """Result of a training pass.

    Attributes:
        quantized: (batch, frames, dim) float32. The gradient passes straight through to the latents
            in dimensions that the codes of the frame quantize, and nowhere else.
        codes: (batch, num_quantizers, frames) int64, of all codebooks.
        depths: (batch, frames) int64, codebooks in use; 0 in unquantized items.
        commitment: scalar, mean squared distance of latents to the sum of codes, added up over the
            codebooks in use, in the dimensions of each.
        perplexity: (num_quantizers,) exp of the code entropy in this batch.
    """

    quantized: Tensor
    codes: Tensor
    depths: Tensor
    commitment: Tensor
    perplexity: Tensor


class ResidualVQ(nn.Module):
    """Residual VQ with codebooks learned as moving averages (arXiv 1711.00937, 2107.03312).

    The first n codes of a frame approximate it, for any n.

    Args:
        num_quantizers: number of codebooks.
        codebook_size: entries of each.
        dim: latent width.
        variable_depth: frames may stop early.
        base_dim: number of dimensions that the first two codebooks quantize, and in which
            tolerances are distances; later codebooks quantize all. None for all everywhere.
    """

    codebooks: Tensor

    def __init__(
        self,
        num_quantizers: int,
        codebook_size: int,
        dim: int,
        variable_depth: bool = False,
        base_dim: int | None = None,
    ):
        super().__init__()
        self.variable_depth = variable_depth
        self.base_dim = base_dim or dim
        self.num_quantizers = num_quantizers
        self.codebook_size = codebook_size
        self.register_buffer("codebooks", torch.empty(num_quantizers, codebook_size, dim))
        self.reset_parameters()
        # Averages exist only while training: shipping them would double the codebooks' size.
        self._averages: _Averages | None = None

    def reset_parameters(self) -> None:
        """Draw random codebooks."""
        nn.init.normal_(self.codebooks, std=self.codebooks.shape[-1] ** -0.5)
        self._zero_reserved()

    @torch.no_grad()
    def _zero_reserved(self) -> None:
        """Zero the reserved entries: dimensions outside the base, and the stop."""
        self.codebooks[:BASE_CODEBOOKS, :, self.base_dim :] = 0.0
        if self.variable_depth:
            self.codebooks[1:, STOP] = 0.0

    def encode(self, latents: Tensor, num_quantizers: int, tolerance: float = 0.0) -> Tensor:
        """Quantize (batch, frames, dim) float to (batch, num_quantizers, frames) int64 codes.

        Args:
            latents: to be quantized.
            num_quantizers: codebooks to use.
            tolerance: squared distance at which a frame stops; 0 uses all codebooks for all frames.
                Only with variable depth.
        """
        batch, frames, dim = latents.shape
        pieces = [
            self._search_all(piece, num_quantizers, tolerance)
            for piece in latents.reshape(-1, dim).float().split(_SEARCH_FRAMES)
        ]
        codes = torch.cat(pieces, dim=1)
        return codes.reshape(num_quantizers, batch, frames).transpose(0, 1)

    def _search_all(self, residual: Tensor, num_quantizers: int, tolerance: float) -> Tensor:
        codes = []
        active = torch.ones(len(residual), dtype=torch.bool, device=residual.device)
        for level in range(num_quantizers):
            code = self._search(level, residual)
            if level and self.variable_depth:
                active = active & (self._base_error(residual) > tolerance)
                code = torch.where(active, code, STOP)
            residual = residual - self.codebooks[level][code]
            codes.append(code)
        return torch.stack(codes)

    def _search(self, level: int, residual: Tensor) -> Tensor:
        """Find the nearest code of each of (frames, dim), other than the stop."""
        if level and self.variable_depth:
            return nearest(residual, self.codebooks[level, STOP + 1 :]) + STOP + 1
        return nearest(residual, self.codebooks[level])

    def _base_error(self, residual: Tensor) -> Tensor:
        return residual[:, : self.base_dim].square().sum(1)

    def decode(self, codes: Tensor) -> Tensor:
        """Decode (batch, n, frames) int to (batch, frames, dim); code -1 (no frame) to zeros."""
        latents = torch.zeros(
            codes.shape[0], codes.shape[2], self.codebooks.shape[-1], device=codes.device
        )
        for level in range(codes.shape[1]):
            latents = latents + self.codebooks[level].float()[codes[:, level].clamp_min(0)]
        return latents * (codes[:, :1] >= 0).transpose(1, 2)

    def depths(self, codes: Tensor) -> Tensor:
        """Count the codes before the stop: (batch, n, frames) int to (batch, frames) int64."""
        if not self.variable_depth:
            return codes.new_full((codes.shape[0], codes.shape[2]), codes.shape[1])
        return 1 + (codes[:, 1:] != STOP).sum(1)

    def forward(
        self, latents: Tensor, levels: Tensor, mask: Tensor, refined: Tensor | None = None
    ) -> QuantizerOutput:
        """Quantize for training; in training mode, collect statistics for `update_codebooks`.

        Args:
            latents: (batch, frames, dim).
            levels: (batch,) int, codebooks that each item may use; 0 leaves it continuous.
            mask: (batch, frames) bool, True on real frames.
            refined: (batch,) 0 to 1, the share of the batch's frames that would use a second
                codebook at each item's tolerance; None for tolerance 0. Only with variable depth.
        """
        # No indexing by masks and no counts on the host: a GPU would wait for each of them.
        batch, frames, dim = latents.shape
        latents = latents.float()
        flat, real = latents.reshape(-1, dim), mask.reshape(-1)
        level_of = levels[:, None].expand(batch, frames).reshape(-1)
        residual, quantized = flat.detach(), torch.zeros_like(flat)
        active, depths = real, torch.zeros_like(level_of)
        commitment = latents.new_zeros(())
        codes, perplexity = [], []
        tolerance: Tensor | None = None
        for level in range(self.num_quantizers):
            if level and refined is not None:
                error = self._base_error(residual)
                if tolerance is None:
                    tolerance = _tolerances(error, real, refined)
                    tolerance = tolerance[:, None].expand(batch, frames).reshape(-1)
                active = active & (error > tolerance)
            code = self._search(level, residual)
            picked = self.codebooks[level][code]
            # A codebook learns from every active frame, also beyond the item's own number of
            # codebooks; that number limits the sum alone.
            if self.training:
                self._collect(level, residual, code, active)
            used = (level_of > level) & active
            depths = depths + used
            distance = (flat - quantized - picked)[:, : self._dims(level)].square().sum(1)
            commitment = commitment + (distance * used).sum()
            quantized = quantized + picked * used[:, None]
            residual = residual - picked
            codes.append(torch.where(active, code, STOP))
            perplexity.append(_perplexity(code, active, self.codebook_size))
        depths, quantized = depths.view(batch, frames), quantized.view(latents.shape)
        base = torch.arange(dim, device=latents.device) < self.base_dim
        has_codes = base | (depths > BASE_CODEBOOKS)[..., None]
        straight_through = quantized + (latents - latents.detach()) * has_codes
        return QuantizerOutput(
            torch.where((levels == 0)[:, None, None], latents, straight_through),
            torch.stack(codes).view(-1, batch, frames).transpose(0, 1),
            depths,
            commitment / (real.sum().clamp_min(1) * dim),
            torch.stack(perplexity),
        )

    def _dims(self, level: int) -> int:
        """Return the number of dimensions that a codebook quantizes."""
        return self.base_dim if level < BASE_CODEBOOKS else self.codebooks.shape[-1]

    @torch.no_grad()
    def _collect(self, level: int, residual: Tensor, code: Tensor, active: Tensor) -> None:
        if self._averages is None:
            self._averages = _Averages(self.codebooks)
        averages, weight = self._averages, active.float()
        averages.batch_count[level].index_add_(0, code, weight)
        averages.batch_total[level].index_add_(0, code, residual * weight[:, None])
        drawn = torch.multinomial(weight + 1e-9, self.codebook_size, replacement=True)
        averages.candidates[level] = residual[drawn]

    def statistics(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return what training passes have collected since the last update of the codebooks.

        Returns:
            counts (num_quantizers, codebook_size) and sums (num_quantizers, codebook_size, dim) of
            the frames of each code, and frames (the same shape) that rarely used codes may be moved
            onto; None before the first pass. Changes in place count.
        """
        averages = self._averages
        if averages is None:
            return None
        return averages.batch_count, averages.batch_total, averages.candidates

    @torch.no_grad()
    def update_codebooks(self, decay: float) -> None:
        """Move the codebooks towards the frames of all training passes since the last call.

        Rarely used codes are moved onto frames of the batch, together with their averages, which
        would otherwise move them straight back.

        Args:
            decay: of the moving averages.
        """
        averages = self._averages
        if averages is None:
            return
        averages.count.lerp_(averages.batch_count, 1.0 - decay)
        averages.total.lerp_(averages.batch_total, 1.0 - decay)
        averages.batch_count.zero_()
        averages.batch_total.zero_()
        mean = averages.count.mean(1, keepdim=True)
        dead = averages.count < REVIVE_BELOW * mean
        if self.variable_depth:
            dead[1:, STOP] = False
        revived = REVIVED_COUNT * mean
        moved = averages.candidates * revived[..., None]
        averages.count = torch.where(dead, revived, averages.count)
        averages.total = torch.where(dead[..., None], moved, averages.total)
        self.codebooks.copy_(averages.total / averages.count.clamp_min(1e-5)[..., None])
        self._zero_reserved()

    @torch.no_grad()
    def fit(self, latents: Tensor, generator: torch.Generator) -> None:
        """Fit the codebooks to (frames, dim) latents by k-means on the residuals of each."""
        residual = latents.float()
        for level in range(self.num_quantizers):
            dims = self._dims(level)
            centres = kmeans(residual[:, :dims], self.codebook_size, generator)
            self.codebooks[level, :, :dims] = centres
            self._zero_reserved()
            residual = residual - self.codebooks[level][self._search(level, residual)]
        self._averages = None

    def training_state(self) -> dict[str, Tensor]:
        """Return the tensors beyond the weights that resuming a training needs."""
        averages = self._averages
        return {} if averages is None else {"count": averages.count, "total": averages.total}

    def load_training_state(self, state: dict[str, Tensor]) -> None:
        """Restore a `training_state`."""
        self._averages = _Averages(self.codebooks)
        for name, value in state.items():
            setattr(self._averages, name, value.to(self.codebooks.device))


class _Averages:
    """Moving averages of each code's frames, and sums over the frames since the last update."""

    def __init__(self, codebooks: Tensor):
        self.count = torch.ones(codebooks.shape[:2], device=codebooks.device)
        self.total = codebooks.clone()
        self.batch_count = torch.zeros_like(self.count)
        self.batch_total = torch.zeros_like(codebooks)
        self.candidates = torch.zeros_like(codebooks)


def _tolerances(error: Tensor, real: Tensor, refined: Tensor) -> Tensor:
    """Return the squared distances (items,) exceeded by this share of the batch's real frames."""
    ordered = error.masked_fill(~real, torch.inf).sort().values
    place = ((1.0 - refined) * (real.sum() - 1)).long().clamp(0, len(ordered) - 1)
    return ordered[place].masked_fill(refined >= 1.0, 0.0)


def _perplexity(code: Tensor, counted: Tensor, size: int) -> Tensor:
    counts = torch.zeros(size, device=code.device).index_add_(0, code, counted.float())
    return torch.special.entr(counts / counts.sum().clamp_min(1.0)).sum().exp()


def bits_per_code(codebook_size: int) -> int:
    """Return the number of whole bits that hold a code of a codebook of this size."""
    return max(1, (codebook_size - 1).bit_length())
