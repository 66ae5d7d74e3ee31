"""Rate-distortion choice of codes: the nearest ones, or the least error and bits together.

As in video coders (Sullivan and Wiegand 1998; for vector quantizers Chou, Lookabaugh and Gray
1989), each frame gets the codes of the least `squared error + bit_price x bits`, stops after any
codebook included. Bits are those of the code prior, as the range coder will spend them; a few more
at the beginning of each chunk are ignored, so that codes do not depend on the length of chunks. The
stream format is not affected.
"""

import numpy as np
import torch
from torch import Tensor

from vqasr.codec.modeling import VQCodecModel
from vqasr.codec.quantizer import BASE_CODEBOOKS
from vqasr.entropy.bundled import bundled_prior
from vqasr.entropy.prior import CodePrior
from vqasr.entropy.prior_decoder import PriorArrays
from vqasr.errors import InvalidCodesError


class CodeChoice:
    """Choose the codes of one clip, frame after frame.

    Args:
        codec: with a prior's codebooks.
        num_quantizers: the most codebooks of a frame.
        bit_price: rate-distortion weight, squared error per bit; 0 takes the nearest code of every
            codebook.
        prior: estimates bits; None for the one that ships for the codec. It should be the one that
            writes the stream.

    Raises:
        InvalidCodesError: a price below 0, or one without a prior for this codec.
    """

    def __init__(
        self,
        codec: VQCodecModel,
        num_quantizers: int,
        bit_price: float = 0.0,
        prior: CodePrior | None = None,
    ):
        if not 0.0 <= bit_price < float("inf"):
            raise InvalidCodesError(f"bit_price={bit_price}: 0 or more is needed.")
        self._quantizer = codec.quantizer
        self._n = num_quantizers
        self._price = bit_price
        if not bit_price:
            return
        fingerprint = codec.fingerprint()
        prior = prior or bundled_prior(fingerprint)
        if prior is None:
            raise InvalidCodesError(
                f"bit_price={bit_price}: no prior is available for this codec, so bit costs are "
                "unknown. Give the prior, or bit_price=0 and a number of codebooks."
            )
        if prior.config.codec_fingerprint != fingerprint.hex():
            raise InvalidCodesError(
                f"the prior was trained for codec {prior.config.codec_fingerprint}, this is "
                f"{fingerprint.hex()}. Give the codec's own prior."
            )
        codebooks = codec.quantizer.codebooks[:num_quantizers].float().cpu().numpy()
        _, size, dim = codebooks.shape
        base = codec.config.base_dim or dim
        arrays = PriorArrays.of(prior, num_quantizers)
        modelled = len(arrays.heads[0])
        fixed = [prior.fixed_frequencies(j, 1)[0] for j in range(modelled, num_quantizers)]
        fixed_bits = [np.log2(row.sum() / row) for row in fixed]
        self._arguments = (
            np.ascontiguousarray(codebooks.transpose(0, 2, 1)),
            (codebooks**2).sum(2),
            np.array([base if j < BASE_CODEBOOKS else dim for j in range(num_quantizers)]),
            np.float32(bit_price),
            codec.config.variable_depth,
            arrays.blocks,
            arrays.heads,
            np.log2(arrays.table).astype(np.float32),
            arrays.table,
            np.array(fixed_bits, np.float32).reshape(-1, size),
            arrays.embedding,
            arrays.level,
            arrays.dilations,
        )
        self._past = arrays.new_past(1)
        self._below = arrays.start[None].copy()
        self._frame = 0

    def choose(self, latents: Tensor) -> Tensor:
        """Choose codes (num_quantizers, frames) int64 of the next (frames, dim) float32 latents."""
        if not self._price:
            return self._quantizer.encode(latents[None], self._n)[0]
        from vqasr.compression.kernels import choose  # numba takes half a second to import

        codes = np.zeros((self._n, len(latents)), np.int64)
        choose(
            latents.detach().float().cpu().numpy(), *self._arguments, self._past, self._below,
            self._frame, codes,
        )  # fmt: skip
        self._frame += len(latents)
        return torch.from_numpy(codes).to(latents.device)
