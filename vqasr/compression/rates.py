"""The one rule for rates: a number of codebooks, or bits per second."""

import math
from dataclasses import dataclass

import numpy as np

from vqasr.codec.configuration import VQCodecConfig
from vqasr.errors import InvalidCodesError


@dataclass(frozen=True)
class OperatingPoint:
    """How finely codes describe speech.

    Attributes:
        num_quantizers: the most codebooks of a frame.
        bit_price: squared distance of latent and codes that a bit must save, see `CodeChoice`; 0
            takes the nearest code of every codebook.
    """

    num_quantizers: int
    bit_price: float = 0.0


def operating_point(
    config: VQCodecConfig, *, num_quantizers: int | None = None, bps: float | None = None
) -> OperatingPoint:
    """Choose how to encode.

    Args:
        config: of the codec.
        num_quantizers: codebooks to use, from 1 on; None for all.
        bps: instead, about as many bits per second of speech, container included, as measured on
            typical recordings (`VQCodecConfig.price_points`). Speech that is harder to describe
            takes more, pauses less.

    Raises:
        InvalidCodesError: both are given, one is out of range, or this codec has no measured rates.
    """
    if bps is None:
        return OperatingPoint(config.check_num_quantizers(num_quantizers))
    if num_quantizers is not None:
        raise InvalidCodesError(
            f"bps={bps:g} and num_quantizers={num_quantizers} both choose the rate: give one."
        )
    points = config.price_points
    if not points:
        raise InvalidCodesError(
            f"bps={bps:g}: this codec has no calibrated rates; pass num_quantizers."
        )
    if not points[0][0] <= bps <= points[-1][0]:
        raise InvalidCodesError(
            f"bps={bps:g}: about {math.ceil(points[0][0])} to {math.floor(points[-1][0])} bits per "
            "second are possible."
        )
    rates, numbers, prices = zip(*points, strict=True)
    n = next(n for rate, n in zip(rates, numbers, strict=True) if bps <= rate)
    return OperatingPoint(int(n), float(np.interp(bps, rates, prices)))
