"""Operating points: a number of codebooks, or bits per second."""

import math
from dataclasses import dataclass
from numbers import Real

import numpy as np

from vqasr.codec.configuration import VQCodecConfig
from vqasr.errors import InvalidCodesError


@dataclass(frozen=True)
class OperatingPoint:
    """Choose the rate of codes.

    Attributes:
        num_quantizers: the most codebooks of a frame.
        bit_price: rate-distortion weight, squared error per bit, see `CodeChoice`; 0 takes the
            nearest code of every codebook.
    """

    num_quantizers: int
    bit_price: float = 0.0


def operating_point(
    config: VQCodecConfig, *, num_quantizers: int | None = None, bps: float | None = None
) -> OperatingPoint:
    """Convert a number of codebooks, or a bitrate, to an operating point.

    Args:
        config: of the codec.
        num_quantizers: codebooks to use, from 1 on; None for all.
        bps: instead, the approximate bits per second of speech, container included, as measured on
            typical recordings (`VQCodecConfig.price_points`). Speech that is harder to describe
            takes more, pauses less.

    Raises:
        InvalidCodesError: both are given, one is out of range, or this codec has no measured rates.
    """
    if bps is None:
        return OperatingPoint(config.check_num_quantizers(num_quantizers))
    if not isinstance(bps, Real):
        raise InvalidCodesError(f"bps={bps!r} is no number of bits per second.")
    if num_quantizers is not None:
        raise InvalidCodesError(
            f"bps={bps:g} and num_quantizers={num_quantizers} both choose the rate: give one."
        )
    if not config.price_points:
        raise InvalidCodesError(
            f"bps={bps:g}: this codec has no calibrated rates; pass num_quantizers."
        )
    rates, numbers, prices = zip(*config.price_points, strict=True)
    if not rates[0] <= bps <= rates[-1]:
        raise InvalidCodesError(
            f"bps={bps:g}: choose {math.ceil(rates[0])} to {math.floor(rates[-1])} bit/s; "
            f"for more, num_quantizers up to {config.num_quantizers} instead."
        )
    n = numbers[np.searchsorted(rates, bps)]  # of the lowest rate from bps on
    return OperatingPoint(int(n), float(np.interp(bps, rates, prices)))
