"""Residual vector quantization: each codebook codes what the ones before it left over.

With variable depth, frames may stop early: code 0 of every codebook but the first is a vector of
zeros, which adds nothing and which the code prior learns to expect.

Written here rather than taken from a library: some dimensions belong to later codebooks only
(`base_dim`), frames stop at different depths, and gradients pass only where codes describe a
dimension.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vqasr.codec.nearest import kmeans, nearest
from vqasr.grid import STOP

# Bounds the (frames, codebook_size) distance matrix to some 32 MB, whatever the clip's length.
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
            in dimensions that the codes of the frame describe, and nowhere else.
        codes: (batch, num_quantizers, frames) int64, of all codebooks.
        depths: (batch, frames) int64, codebooks in use; 0 in unquantized items.
        commitment: scalar, mean squared distance of latents to the sum of codes, added up over the
            codebooks in use, in the dimensions that each of them describes.
        perplexity: (num_quantizers,) exp of the code entropy in this batch.
    """

    quantized: Tensor
    codes: Tensor
    depths: Tensor
    commitment: Tensor
    perplexity: Tensor


class ResidualVQ(nn.Module):
    """Residual VQ with codebooks learned as moving averages (arXiv 1711.00937, 2107.03312).

    Any first n codebooks are a valid description.

    Args:
        num_quantizers: number of codebooks.
        codebook_size: entries of each.
        dim: latent width.
        variable_depth: frames may stop early.
        base_dim: dimensions that the first two codebooks describe; tolerances are distances in
            them. Codebooks from the third on describe all dimensions. None for all everywhere.
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
        self._reserve()

    @torch.no_grad()
    def _reserve(self) -> None:
        """Zero the reserved entries: dimensions outside the base, and the stop."""
        self.codebooks[:BASE_CODEBOOKS, :, self.base_dim :] = 0.0
        if self.variable_depth:
            self.codebooks[1:, STOP] = 0.0

    def encode(self, latents: Tensor, num_quantizers: int, tolerance: float = 0.0) -> Tensor:
        """Nearest codes: (batch, frames, dim) float32 -> (batch, num_quantizers, frames) int64.

        Args:
            latents: to be quantized.
            num_quantizers: codebooks to use.
            tolerance: squared distance at which a frame stops; 0 uses all codebooks for all frames.
                Only with variable depth.
        """
        batch, frames, dim = latents.shape
        with torch.autocast(latents.device.type, enabled=False):
            flat = latents.reshape(-1, dim).float()
            pieces = [
                self._search_all(piece, num_quantizers, tolerance)
                for piece in flat.split(_SEARCH_FRAMES)
            ]
        codes = torch.cat(pieces, dim=1) if pieces else flat.new_zeros(num_quantizers, 0).long()
        return codes.reshape(num_quantizers, batch, frames).transpose(0, 1)

    def _search_all(self, residual: Tensor, num_quantizers: int, tolerance: float) -> Tensor:
        codes = []
        going_on = torch.ones(len(residual), dtype=torch.bool, device=residual.device)
        for level in range(num_quantizers):
            code = self._search(level, residual)
            if level and self.variable_depth:
                going_on = going_on & (residual[:, : self.base_dim].square().sum(1) > tolerance)
                code = torch.where(going_on, code, STOP)
            residual = residual - self.codebooks[level][code]
            codes.append(code)
        return torch.stack(codes)

    def _search(self, level: int, residual: Tensor) -> Tensor:
        """Nearest code of each of (frames, dim), other than the stop."""
        if level and self.variable_depth:
            return nearest(residual, self.codebooks[level, STOP + 1 :]) + STOP + 1
        return nearest(residual, self.codebooks[level])

    def decode(self, codes: Tensor) -> Tensor:
        """(batch, n, frames) int -> (batch, frames, dim); code -1 (no frame) adds zero."""
        latents = torch.zeros(
            codes.shape[0], codes.shape[2], self.codebooks.shape[-1], device=codes.device
        )
        for level in range(codes.shape[1]):
            latents = latents + self.codebooks[level].float()[codes[:, level].clamp_min(0)]
        return latents * (codes[:, :1] >= 0).transpose(1, 2)

    def depths(self, codes: Tensor) -> Tensor:
        """(batch, n, frames) int codes -> (batch, frames) int64, codebooks before the stop."""
        if not self.variable_depth:
            return codes.new_full((codes.shape[0], codes.shape[2]), codes.shape[1])
        return 1 + (codes[:, 1:] != STOP).sum(1)

    def forward(
        self, latents: Tensor, levels: Tensor, mask: Tensor, refined: Tensor | None = None
    ) -> QuantizerOutput:
        """Quantize for training; in training mode, collect what `update_codebooks` needs.

        Args:
            latents: (batch, frames, dim).
            levels: (batch,) int, codebooks that each item may use; 0 leaves it continuous.
            mask: (batch, frames) bool, True on real frames.
            refined: (batch,) 0 to 1, the share of the batch's frames that would use a second
                codebook at each item's tolerance; None for tolerance 0. Only with variable depth.
        """
        with torch.autocast(latents.device.type, enabled=False):
            return self._forward(latents.float(), levels, mask, refined)

    def _forward(
        self, latents: Tensor, levels: Tensor, mask: Tensor, refined: Tensor | None
    ) -> QuantizerOutput:
        # No indexing by masks and no counts on the host: a GPU would wait for each of them.
        batch, frames, dim = latents.shape
        flat, real = latents.reshape(-1, dim), mask.reshape(-1)
        level_of = levels[:, None].expand(batch, frames).reshape(-1)
        residual, quantized = flat.detach(), torch.zeros_like(flat)
        going_on, depths = real, torch.zeros_like(level_of)
        commitment = latents.new_zeros(())
        codes, perplexity = [], []
        tolerance: Tensor | None = None
        for level in range(self.num_quantizers):
            if level and refined is not None:
                left_over = residual[:, : self.base_dim].square().sum(1)
                if tolerance is None:
                    tolerance = _tolerances(left_over, real, refined)
                    tolerance = tolerance[:, None].expand(batch, frames).reshape(-1)
                going_on = going_on & (left_over > tolerance)
            code = self._search(level, residual)
            picked = self.codebooks[level][code]
            # A codebook learns from every frame that goes on so far; only the sum that is passed
            # on stops at the item's own number of codebooks.
            if self.training:
                self._collect(level, residual, code, going_on)
            used = (level_of > level) & going_on
            depths = depths + used
            described = self.base_dim if level < BASE_CODEBOOKS else dim
            distance = (flat - quantized - picked)[:, :described].square().sum(1)
            commitment = commitment + (distance * used).sum()
            quantized = quantized + picked * used[:, None]
            residual = residual - picked
            codes.append(torch.where(going_on, code, STOP))
            perplexity.append(_perplexity(code, going_on, self.codebook_size))
        depths, quantized = depths.view(batch, frames), quantized.view(latents.shape)
        base = torch.arange(dim, device=latents.device) < self.base_dim
        described_here = base | (depths > BASE_CODEBOOKS)[..., None]
        straight_through = quantized + (latents - latents.detach()) * described_here
        return QuantizerOutput(
            torch.where((levels == 0)[:, None, None], latents, straight_through),
            torch.stack(codes).view(-1, batch, frames).transpose(0, 1),
            depths,
            commitment / (real.sum().clamp_min(1) * dim),
            torch.stack(perplexity),
        )

    @torch.no_grad()
    def _collect(self, level: int, residual: Tensor, code: Tensor, going_on: Tensor) -> None:
        if self._averages is None:
            self._averages = _Averages.of(self.codebooks)
        averages, weight = self._averages, going_on.float()
        averages.batch_count[level].index_add_(0, code, weight)
        averages.batch_total[level].index_add_(0, code, residual * weight[:, None])
        drawn = torch.multinomial(weight + 1e-9, self.codebook_size, replacement=True)
        averages.candidates[level] = residual[drawn]

    @torch.no_grad()
    def update_codebooks(self, decay: float) -> None:
        """Move the codebooks towards the frames of all training passes since the last call.

        Codes that are hardly used are moved onto frames of the batch, with their averages:
        otherwise the next update would move them straight back.

        Args:
            decay: of the moving averages.
        """
        averages = self._averages
        if averages is None:
            return
        averages.count.lerp_(averages.batch_count, 1.0 - decay)
        averages.total.lerp_(averages.batch_total, 1.0 - decay)
        averages.batch_count.zero_(), averages.batch_total.zero_()
        mean = averages.count.mean(1, keepdim=True)
        dead = averages.count < REVIVE_BELOW * mean
        if self.variable_depth:
            dead[1:, STOP] = False
        revived = (REVIVED_COUNT * mean).expand_as(averages.count)
        averages.count = torch.where(dead, revived, averages.count)
        moved = averages.candidates * revived[..., None]
        averages.total = torch.where(dead[..., None], moved, averages.total)
        self.codebooks.copy_(averages.total / averages.count.clamp_min(1e-5)[..., None])
        self._reserve()

    @torch.no_grad()
    def fit(self, latents: Tensor, generator: torch.Generator) -> None:
        """Start the codebooks from (frames, dim) latents: k-means on each one's residuals."""
        residual = latents.float()
        for level in range(self.num_quantizers):
            described = self.base_dim if level < BASE_CODEBOOKS else residual.shape[1]
            centres = kmeans(residual[:, :described], self.codebook_size, generator)
            self.codebooks[level, :, :described] = centres
            self._reserve()
            residual = residual - self.codebooks[level][self._search(level, residual)]
        self._averages = None

    def training_state(self) -> dict[str, Tensor]:
        """Tensors beyond the weights that an interrupted training needs to go on."""
        averages = self._averages
        return {} if averages is None else {"count": averages.count, "total": averages.total}

    def load_training_state(self, state: dict[str, Tensor]) -> None:
        """Put back what `training_state` gave."""
        self._averages = _Averages.of(self.codebooks)
        for name, value in state.items():
            setattr(self._averages, name, value.to(self.codebooks.device))


@dataclass
class _Averages:
    """Moving averages of the frames of each code, and sums over the frames since the last update.

    (num_quantizers, codebook_size) counts and (num_quantizers, codebook_size, dim) totals.
    """

    count: Tensor
    total: Tensor
    batch_count: Tensor
    batch_total: Tensor
    candidates: Tensor

    @classmethod
    def of(cls, codebooks: Tensor) -> "_Averages":
        count = torch.ones(codebooks.shape[:2], device=codebooks.device)
        zeros = torch.zeros_like(codebooks)
        return cls(count, codebooks.clone(), torch.zeros_like(count), zeros, zeros.clone())


def _tolerances(left_over: Tensor, real: Tensor, refined: Tensor) -> Tensor:
    """Squared distances (items,) that this share of the batch's real frames exceeds."""
    ordered = left_over.masked_fill(~real, torch.inf).sort().values
    place = ((1.0 - refined) * (real.sum() - 1)).long().clamp(0, len(ordered) - 1)
    return ordered[place].masked_fill(refined >= 1.0, 0.0)


def _perplexity(code: Tensor, counted: Tensor, size: int) -> Tensor:
    counts = torch.zeros(size, device=code.device).index_add_(0, code, counted.float())
    share = counts / counts.sum().clamp_min(1.0)
    return torch.exp(-(share * share.clamp_min(1e-10).log()).sum())


def bits_per_code(codebook_size: int) -> int:
    """Whole bits that hold a code of a codebook of this size."""
    return max(1, math.ceil(math.log2(codebook_size)))
