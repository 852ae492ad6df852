"""Bets on a share: counts of weighted draws in, capital and anytime-valid bounds out.

A gambler who bets against "the share is at most m" multiplies the capital by 1 + bet * weight * (draw - m) at each
draw. If m holds, capital is on average no more than what it began with, whenever one looks: it ever reaches 1 / delta
with probability delta at most (Ville; Waudby-Smith and Ramdas 2024, "Estimating means of bounded random variables by
betting"). Capital is spread over a few fixed bets, so that counts are all that has to be kept, those of workers add
up, and their order does not matter.

A draw that was to be seen with probability p has the weight `least / p`, where `least` is the smallest such
probability, fixed beforehand: weighted so, the draws have the mean of the whole traffic. A weight is rounded at random
to one of two neighbours among `WEIGHTS`, which keeps its mean.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

WEIGHTS = 2.0 ** (-np.arange(15) / 2)
"""1 down to 1/128; a smaller weight is rounded to the last or to nothing."""

RATIOS = np.array([1.2, 1.5, 2.0, 3.0, 6.0])
"""Against "at most m": each bet is the best one where the share is so many times m."""
CUTS = np.array([1.0, 0.5, 0.25, 0.125])
"""Against "at least m": shares of the largest bet that can't lose everything."""
MOST = 0.95
"""Share of the capital that one draw may cost, at most."""

GRID = np.geomspace(1e-4, 0.999, 240)
"""Shares that bounds are looked for among: in steps of 4 %."""


def weight_place(propensity: float, least: float, draw: float) -> int | None:
    """Return the place in `WEIGHTS` of a draw's weight; None where it is rounded to nothing.

    Args:
        propensity: with what probability it was to be seen, in (0, 1].
        least: smallest such probability, in (0, 1]; a smaller one counts as this.
        draw: uniform in [0, 1), independent of all else.
    """
    weight = min(1.0, least / propensity)
    upper = int(np.searchsorted(-WEIGHTS, -weight, side="right")) - 1  # last one at or above the weight
    lower = upper + 1
    below = float(WEIGHTS[lower]) if lower < WEIGHTS.size else 0.0
    if draw < (weight - below) / (float(WEIGHTS[upper]) - below):
        return upper
    return lower if lower < WEIGHTS.size else None


def log_capital_above(zeros: Counts, ones: Counts, shares: Floats) -> Floats:
    """Return the log of the capital won against "the share is at most m".

    Args:
        zeros: (..., 15) draws without the event, by weight.
        ones: (..., 15) draws with it.
        shares: (s,) values of m, in (0, 1).

    Returns:
        (..., s); 0 without draws.
    """
    return _mixed(zeros, ones, *_factors_above(shares))


def _factors_above(shares: Floats) -> tuple[Floats, Floats]:
    """Return (s, bets, 15) logs of what a draw without the event, and one with it, makes of the capital."""
    bets = np.minimum((RATIOS - 1.0) / (1.0 - shares[:, None]), MOST / shares[:, None])
    weighted = bets[:, :, None] * WEIGHTS
    return np.log1p(-weighted * shares[:, None, None]), np.log1p(weighted * (1.0 - shares[:, None, None]))


def _factors_below(shares: Floats) -> tuple[Floats, Floats]:
    weighted = (MOST * CUTS / (1.0 - shares[:, None]))[:, :, None] * WEIGHTS
    return np.log1p(weighted * shares[:, None, None]), np.log1p(-weighted * (1.0 - shares[:, None, None]))


_GRID_ABOVE, _GRID_BELOW = _factors_above(GRID), _factors_below(GRID)


def bounds(zeros: Counts, ones: Counts, delta: float) -> tuple[float, float]:
    """Return lower and upper bound of the share, each wrong with probability delta at most, at whatever time one looks.

    Args:
        zeros: (15,) draws without the event, by weight.
        ones: (15,) draws with it.
        delta: of each bound, in (0, 1).
    """
    needed = -math.log(delta)
    is_too_low = _mixed(zeros, ones, *_GRID_ABOVE) >= needed
    is_too_high = _mixed(zeros, ones, *_GRID_BELOW) >= needed
    lower = 0.0 if not is_too_low[0] else float(GRID[max(0, int(np.argmin(is_too_low)) - 1)])
    upper = 1.0 if not is_too_high[-1] else float(GRID[GRID.size - int(np.argmin(is_too_high[::-1]))])
    return lower, upper


def _mixed(zeros: Counts, ones: Counts, of_zero: Floats, of_one: Floats) -> Floats:
    """Return (..., s) log of the mean over bets of the product over draws; `of_zero`, `of_one` are (s, bets, 15)."""
    logs = np.tensordot(zeros.astype(np.float64), of_zero, (-1, -1))
    logs += np.tensordot(ones.astype(np.float64), of_one, (-1, -1))
    return np.asarray(np.logaddexp.reduce(logs, axis=-1) - math.log(of_zero.shape[1]), dtype=np.float64)
