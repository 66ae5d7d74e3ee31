"""Compare two rate curves in one number: the ratio of their bits at equal word error rate.

After Bjontegaard (ITU-T VCEG-M33): the mean distance of the log rates over the range of quality
that both curves reach. Interpolation is linear in log rate, because a few operating points cannot
determine a third-degree polynomial.
"""

import numpy as np
import numpy.typing as npt

STEPS = 200


def rate_ratio(
    bps: npt.ArrayLike, wer: npt.ArrayLike, other_bps: npt.ArrayLike, other_wer: npt.ArrayLike
) -> float | None:
    """Return how many times as many bits the other system needs, averaged over the common range.

    A point is ignored if another point has no more bits and no more errors.

    Args:
        bps, wer: operating points of a system, (points,), in any order.
        other_bps, other_wer: operating points of the other system.

    Returns:
        The geometric mean of other bits / bits; None if the curves have no range in common.
    """
    one, other = _frontier(bps, wer), _frontier(other_bps, other_wer)
    best = max(one[0][0], other[0][0])
    worst = min(one[0][-1], other[0][-1])
    if best >= worst:
        return None
    grid = np.linspace(best, worst, STEPS)
    return float(np.exp((np.interp(grid, *other) - np.interp(grid, *one)).mean()))


def ratio_interval(
    bps: npt.ArrayLike,
    wer: npt.NDArray[np.float64],
    other_bps: npt.ArrayLike,
    other_wer: npt.NDArray[np.float64],
) -> list[float] | None:
    """Return the 95 % interval of `rate_ratio`.

    Args:
        bps, other_bps: operating points, (points,).
        wer, other_wer: (draws, points), from the same bootstrap draws for both systems.

    Returns:
        [low, high]; None if fewer than 95 % of the draws have a range in common.
    """
    draws = [rate_ratio(bps, one, other_bps, two) for one, two in zip(wer, other_wer, strict=True)]
    ratios = [ratio for ratio in draws if ratio is not None]
    if len(ratios) < 0.95 * len(draws):
        return None
    return [round(float(q), 3) for q in np.quantile(ratios, (0.025, 0.975))]


def _frontier(
    bps: npt.ArrayLike, wer: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return (rising word error rates, log rates) of the points on the Pareto front."""
    kept: list[tuple[float, float]] = []
    for rate, errors in sorted(zip(np.atleast_1d(bps), np.atleast_1d(wer), strict=True)):
        if not kept or errors < kept[-1][0]:
            kept.append((float(errors), float(np.log(rate))))
    rising = np.array(kept[::-1])
    return rising[:, 0], rising[:, 1]
