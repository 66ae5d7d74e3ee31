"""Two rate curves in one number: how many times the bits at equal word error rate.

After Bjontegaard (ITU-T VCEG-M33): the mean distance of the logarithms of the rates over the range
of quality that both curves reach. Interpolation is linear in log rate: word error rates of a few
operating points hold no third-degree polynomial.
"""

import numpy as np
import numpy.typing as npt

STEPS = 200


def rate_ratio(
    bps: npt.ArrayLike, wer: npt.ArrayLike, other_bps: npt.ArrayLike, other_wer: npt.ArrayLike
) -> float | None:
    """How many times as many bits the other system needs, on average over the common range.

    A point that needs more bits than another one and is no better is left out.

    Args:
        bps, wer: operating points of a system, in any order.
        other_bps, other_wer: of the other one.

    Returns:
        The geometric mean of other bits / bits; None where the curves have no range in common.
    """
    one, other = _frontier(bps, wer), _frontier(other_bps, other_wer)
    best = max(one[0][0], other[0][0])
    worst = min(one[0][-1], other[0][-1])
    if best >= worst:
        return None
    at = np.linspace(best, worst, STEPS)
    distance = np.interp(at, *other) - np.interp(at, *one)
    return float(np.exp(distance.mean()))


def ratio_interval(
    bps: npt.ArrayLike,
    wer: npt.NDArray[np.float64],
    other_bps: npt.ArrayLike,
    other_wer: npt.NDArray[np.float64],
) -> list[float] | None:
    """95 % interval of `rate_ratio`.

    Args:
        bps, other_bps: operating points, (points,).
        wer, other_wer: (draws, points), of the same bootstrap draws for both systems.

    Returns:
        [low, high]; None where fewer than 95 % of the draws have a range in common.
    """
    ratios = [rate_ratio(bps, one, other_bps, two) for one, two in zip(wer, other_wer, strict=True)]
    found = [ratio for ratio in ratios if ratio is not None]
    if len(found) < 0.95 * len(ratios):
        return None
    return [round(float(q), 3) for q in np.quantile(found, (0.025, 0.975))]


def _frontier(
    bps: npt.ArrayLike, wer: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(word error rates, rising; log rates) of the points that no other one makes superfluous."""
    points = sorted(zip(np.atleast_1d(bps), np.atleast_1d(wer), strict=True))
    kept: list[tuple[float, float]] = []
    for rate, errors in points:
        if not kept or errors < kept[-1][0]:
            kept.append((float(errors), float(np.log(rate))))
    rising = np.array(kept[::-1])
    return rising[:, 0], rising[:, 1]
