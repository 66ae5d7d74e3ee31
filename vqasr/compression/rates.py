"""Operating points: a number of codebooks, or bits per second."""

import json
import math
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np

from vqasr.assets import ASSETS
from vqasr.entropy.packing import check_num_quantizers
from vqasr.errors import InvalidCodesError

if TYPE_CHECKING:  # takes seconds to import, which `check_rate` saves
    from vqasr.codec.configuration import VQCodecConfig

BUNDLED = "vqasr-base"


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


@dataclass(frozen=True)
class SavedRates:
    """Hold what `operating_point` needs of a `VQCodecConfig`, from the file of one."""

    num_quantizers: int
    price_points: list[tuple[float, int, float]]


def check_rate(codec: str | None, num_quantizers: int | None, bps: float | None) -> None:
    """Refuse a rate before the codec is loaded, which takes seconds.

    Args:
        codec: its name; of other codecs than the bundled one, only what is possible for none is
            refused.
        num_quantizers, bps: as of `operating_point`.

    Raises:
        InvalidCodesError: as `operating_point`.
    """
    if codec == BUNDLED:
        facts = json.loads((ASSETS / BUNDLED / "config.json").read_text())
        saved = SavedRates(facts["num_quantizers"], facts["price_points"])
        operating_point(saved, num_quantizers=num_quantizers, bps=bps)
        return
    _check_one(num_quantizers, bps)
    if num_quantizers is not None and num_quantizers < 1:
        raise InvalidCodesError(f"num_quantizers={num_quantizers}: choose 1 or more codebooks.")
    if bps is not None and not 0 < bps < math.inf:
        raise InvalidCodesError(f"bps={bps:g}: choose a finite number above 0.")


def operating_point(
    config: "VQCodecConfig | SavedRates",
    *,
    num_quantizers: int | None = None,
    bps: float | None = None,
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
        return OperatingPoint(check_num_quantizers(num_quantizers, config.num_quantizers))
    if not isinstance(bps, Real):
        raise InvalidCodesError(f"bps={bps!r} is no number of bits per second.")
    _check_one(num_quantizers, bps)
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


def _check_one(num_quantizers: int | None, bps: float | None) -> None:
    if num_quantizers is not None and bps is not None:
        raise InvalidCodesError(
            f"bps={bps:g} and num_quantizers={num_quantizers} both choose the rate: give one."
        )
