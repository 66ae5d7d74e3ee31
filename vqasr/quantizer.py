"""Residual vector quantization: each codebook codes what the ones before it left over.

With variable depth, frames that are described well enough stop early: code 0 of every codebook but
the first is a vector of zeros, which adds nothing and which the code prior learns to expect. A few
frames (onsets, bursts) need the second codebook much more than all others; see
recipes/train_codec/EXPERIMENTS.md.

`Quantizer` is the small interface behind which other families (FSQ, lookup-free, ...) can stand.

Written here rather than taken from vector-quantize-pytorch for two reasons: revived codes must have
their EMA state revived with them (otherwise the next update moves them straight back), and the
search is on the encoder's critical path (there 200 ms, here about 80 ms for 8 x 1024 on 4,000
frames of one core).
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vqasr.nearest import kmeans, nearest
from vqasr.prior_config import STOP

# Bounds the (frames, codebook_size) distance matrix to some 32 MB, whatever the clip's length.
_SEARCH_FRAMES = 8192
# So many codebooks describe the base dimensions and nothing else.
BASE_CODEBOOKS = 2


@dataclass
class QuantizerOutput:
    """Result of a training pass.

    Attributes:
        quantized: (batch, frames, dim), straight-through gradient to the latents.
        codes: (batch, num_quantizers, frames) int64, of all codebooks.
        depths: (batch, frames) int64, codebooks that describe a frame; 0 in unquantized items.
        commitment_loss: scalar; in the base dimensions, distance of each residual to its code over
            the codebooks in use; in the others, distance to the codes of all codebooks.
        perplexity: (num_quantizers,) exp of the code entropy in this batch.
    """

    quantized: Tensor
    codes: Tensor
    depths: Tensor
    commitment_loss: Tensor
    perplexity: Tensor


class Quantizer(nn.Module, ABC):
    """Latents to codes and back, scalable: any first n codebooks are a valid description."""

    @abstractmethod
    def reset_parameters(self) -> None:
        """Random codebooks."""

    @abstractmethod
    def encode(self, latents: Tensor, num_quantizers: int, tolerance: float = 0.0) -> Tensor:
        """(batch, frames, dim) float32 -> (batch, num_quantizers, frames) int64.

        Args:
            latents: to be quantized.
            num_quantizers: codebooks to use.
            tolerance: squared distance at which a frame is described well enough and stops; 0 uses
                all codebooks for all frames. Only with variable depth.
        """

    @abstractmethod
    def decode(self, codes: Tensor) -> Tensor:
        """(batch, n, frames) int -> (batch, frames, dim); code -1 (no frame) adds zero."""

    @abstractmethod
    def depths(self, codes: Tensor) -> Tensor:
        """(batch, n, frames) int codes -> (batch, frames) int64, codebooks before the stop."""

    @abstractmethod
    def forward(
        self, latents: Tensor, levels: Tensor, mask: Tensor, refined: Tensor | None = None
    ) -> QuantizerOutput:
        """Quantize for training and, in training mode, adapt the codebooks.

        Args:
            latents: (batch, frames, dim).
            levels: (batch,) int, how many codebooks each item may use; 0 leaves it continuous.
            mask: (batch, frames) bool, True on real frames.
            refined: (batch,) 0 to 1, the share of the batch's frames that would go on to the second
                codebook at each item's tolerance; None for tolerance 0. Only with variable depth.
        """

    @abstractmethod
    def fit(self, latents: Tensor, generator: torch.Generator, first: int = 0) -> None:
        """Start the codebooks, from number `first` on, from (frames, dim) latents."""

    @abstractmethod
    def training_state(self) -> dict[str, Tensor]:
        """Tensors beyond the weights that an interrupted training needs to go on."""

    @abstractmethod
    def load_training_state(self, state: dict[str, Tensor]) -> None:
        """Put back what `training_state` gave."""


class ResidualVQ(Quantizer):
    """Residual VQ with EMA codebooks (arXiv 1711.00937, 2107.03312).

    Args:
        num_quantizers: number of codebooks.
        codebook_size: entries of each.
        dim: latent width.
        decay: of the exponential moving averages.
        revive_below: a code whose average number of frames per batch falls below this is put on a
            random frame of the batch.
        variable_depth: frames may stop early.
        base_dim: the first two codebooks describe so many dimensions only, and tolerances are
            distances in them. Latents that are held to what one or two codebooks can carry lose
            everything finer: the other dimensions are for that, and only codebooks from the third
            on hold them. None for all dimensions.
    """

    codebooks: Tensor

    def __init__(
        self,
        num_quantizers: int,
        codebook_size: int,
        dim: int,
        decay: float = 0.97,
        revive_below: float = 0.1,
        variable_depth: bool = False,
        base_dim: int | None = None,
    ):
        super().__init__()
        self.variable_depth = variable_depth
        self.base_dim = base_dim or dim
        self.num_quantizers = num_quantizers
        self.codebook_size = codebook_size
        self.decay = decay
        self.revive_below = revive_below
        self.register_buffer("codebooks", torch.empty(num_quantizers, codebook_size, dim))
        self.reset_parameters()
        # Averages exist only while training: shipping them would double the codebooks' size.
        self._ema_count: Tensor | None = None
        self._ema_sum: Tensor | None = None

    def reset_parameters(self) -> None:
        nn.init.normal_(self.codebooks, std=self.codebooks.shape[-1] ** -0.5)
        self._reserve()

    @torch.no_grad()
    def _reserve(self) -> None:
        """Put zeros where codes must not say anything."""
        self.codebooks[:BASE_CODEBOOKS, :, self.base_dim :] = 0.0
        if self.variable_depth:
            self.codebooks[1:, STOP] = 0.0

    def encode(self, latents: Tensor, num_quantizers: int, tolerance: float = 0.0) -> Tensor:
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
        latents = torch.zeros(
            codes.shape[0], codes.shape[2], self.codebooks.shape[-1], device=codes.device
        )
        for level in range(codes.shape[1]):
            latents = latents + self.codebooks[level].float()[codes[:, level].clamp_min(0)]
        return latents * (codes[:, :1] >= 0).transpose(1, 2)

    def depths(self, codes: Tensor) -> Tensor:
        if not self.variable_depth:
            return codes.new_full((codes.shape[0], codes.shape[2]), codes.shape[1])
        return 1 + (codes[:, 1:] != STOP).sum(1)

    def forward(
        self, latents: Tensor, levels: Tensor, mask: Tensor, refined: Tensor | None = None
    ) -> QuantizerOutput:
        with torch.autocast(latents.device.type, enabled=False):
            return self._forward(latents.float(), levels, mask, refined)

    def _forward(
        self, latents: Tensor, levels: Tensor, mask: Tensor, refined: Tensor | None
    ) -> QuantizerOutput:
        residual = latents.detach()
        base = self.base_dim
        commitment = latents.new_zeros(())
        quantized = torch.zeros_like(residual)
        codes, perplexity = [], []
        going_on, depths = mask, torch.zeros_like(mask, dtype=torch.long)
        tolerances: Tensor | None = None
        for level in range(self.num_quantizers):
            if level and refined is not None:
                left_over = residual[..., :base].square().sum(-1)
                if tolerances is None:
                    tolerances = torch.quantile(left_over[mask], 1.0 - refined)
                    tolerances = tolerances.masked_fill(refined >= 1.0, 0.0)
                going_on = going_on & (left_over > tolerances[:, None])
            code = self._search(level, residual.flatten(0, 1)).view(mask.shape)
            picked = self.codebooks[level][code]
            # A codebook learns from every frame that goes on so far; only the sum that is passed
            # on stops at the item's own number of codebooks.
            if self.training:
                self._update(level, residual[going_on], code[going_on])
            used = (levels > level)[:, None] & going_on
            depths = depths + used
            in_use = used[..., None]
            # latents - (sum of codes before) is this residual with a gradient to the latents.
            distance = (latents - quantized - picked)[..., :base].square() * in_use
            commitment = commitment + distance.sum()
            quantized = quantized + picked * in_use
            residual = residual - picked
            codes.append(torch.where(going_on, code, STOP))
            perplexity.append(_perplexity(code[going_on], self.codebook_size))
        finer = (latents - (latents.detach() - residual))[..., base:].square() * mask[..., None]
        commitment = (commitment + finer.sum()) / (mask.sum() * latents.shape[-1])
        continuous = (levels == 0)[:, None, None]
        passed_on = torch.where(continuous, latents, latents + (quantized - latents).detach())
        return QuantizerOutput(
            passed_on, torch.stack(codes, 1), depths, commitment, torch.stack(perplexity)
        )

    @torch.no_grad()
    def _update(self, level: int, frames: Tensor, code: Tensor) -> None:
        if self._ema_count is None or self._ema_sum is None:
            self._ema_count = torch.ones(self.codebooks.shape[:2], device=self.codebooks.device)
            self._ema_sum = self.codebooks.clone()
        count, total = self._ema_count[level], self._ema_sum[level]
        batch_count = torch.bincount(code, minlength=self.codebook_size).to(count.dtype)
        batch_sum = torch.zeros_like(total).index_add_(0, code, frames)
        count.lerp_(batch_count, 1 - self.decay)
        total.lerp_(batch_sum, 1 - self.decay)
        dead = (count < self.revive_below).nonzero()[:, 0]
        if len(dead) and len(frames):
            chosen = frames[torch.randint(len(frames), (len(dead),), device=frames.device)]
            count[dead] = 1.0
            total[dead] = chosen
        self.codebooks[level] = total / count[:, None].clamp_min(1e-5)
        self._reserve()

    @torch.no_grad()
    def fit(self, latents: Tensor, generator: torch.Generator, first: int = 0) -> None:
        """k-means per codebook on the residuals of those before; forgets the averages."""
        residual = latents.float()
        for level in range(self.num_quantizers):
            if level >= first:
                described = residual[:, : self.base_dim] if level < BASE_CODEBOOKS else residual
                codebook = kmeans(described, self.codebook_size, generator)
                self.codebooks[level, :, : codebook.shape[1]] = codebook
                self._reserve()
            residual = residual - self.codebooks[level][self._search(level, residual)]
        self._ema_count = self._ema_sum = None

    def training_state(self) -> dict[str, Tensor]:
        if self._ema_count is None or self._ema_sum is None:
            return {}
        return {"ema_count": self._ema_count, "ema_sum": self._ema_sum}

    def load_training_state(self, state: dict[str, Tensor]) -> None:
        device = self.codebooks.device
        self._ema_count, self._ema_sum = (
            state[name].to(device) if name in state else None for name in ("ema_count", "ema_sum")
        )
        self._reserve()  # the state may be of a run without variable depth


def build_quantizer(
    num_quantizers: int,
    codebook_size: int,
    dim: int,
    variable_depth: bool,
    base_dim: int | None = None,
) -> Quantizer:
    """The quantizer of codecs and adapters: the one place that names a family."""
    return ResidualVQ(
        num_quantizers, codebook_size, dim, variable_depth=variable_depth, base_dim=base_dim
    )


def _perplexity(code: Tensor, size: int) -> Tensor:
    share = torch.bincount(code, minlength=size).float() / max(1, code.numel())
    return torch.exp(-(share * share.clamp_min(1e-10).log()).sum())


def bits_per_code(codebook_size: int) -> int:
    """Whole bits that hold a code of a codebook of this size."""
    return max(1, math.ceil(math.log2(codebook_size)))
