"""Guarantees: what a sample proves of a mean, at a stated level and for any distribution.

Comes in: independent draws. Goes out: an exact upper bound on a share of events, or whether a bounded
mean is shown to be at most a limit. `turnout.training.policy.policy` builds its promises on both.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

MAX_LOSS = 0.5
"""Largest share of the capital that one draw may cost (the paper's c, there 1/2 or 3/4)."""


def binomial_upper_bound(n_events: int, n_draws: int, delta: float) -> float:
    """Return the exact upper confidence bound on a share (Clopper and Pearson 1934), at level 1 - delta."""
    if n_draws == 0 or n_events >= n_draws:
        return 1.0
    return float(betaincinv(n_events + 1, n_draws - n_events, 1.0 - delta))  # beta.ppf, 30 times as fast


def is_mean_shown_at_most(draws: NDArray[np.float64], limit: float, *, low: float, high: float, delta: float) -> bool:
    """Return whether the draws show their mean to be at most `limit`; wrongly so with probability delta at most.

    Bets against "the mean is above the limit" (Waudby-Smith and Ramdas 2024, "Estimating means of bounded
    random variables by betting"; one side of their hedged capital). Each draw multiplies the
    capital by 1 + bet * (m - draw), draws and limit m scaled to [0, 1]. Were the mean above the limit, the
    capital would be a supermartingale that starts at 1, since each bet is fixed before its draw is seen:
    by Ville's inequality its running maximum reaches 1 / delta with probability delta at most. So the
    maximum decides, not the final value, which is never above it.

    Args:
        draws: (n,) independent, in [low, high], in an order that does not depend on their values.
        limit: within [low, high].
        low: least value a draw can take, known beforehand and not read off the draws.
        high: largest value, likewise.
        delta: level of the test.

    Raises:
        ValueError: a draw lies outside [low, high]: nothing would hold then.
    """
    if draws.size == 0:
        return False
    scaled, m = (draws - low) / (high - low), (limit - low) / (high - low)
    if not (scaled.min() >= -1e-9 and scaled.max() <= 1.0 + 1e-9):  # so put, NaN is outside as well
        raise ValueError(f"draws: expected [{low}, {high}], got {draws.min()} to {draws.max()}")
    if m >= 1.0:
        return True
    largest = MAX_LOSS / (1.0 - m)
    bets = np.minimum(_plug_in_bets(scaled, delta), largest)
    log_capital = np.cumsum(np.log1p(bets * (m - scaled)))
    return bool(log_capital.max() >= -math.log(delta))


def _plug_in_bets(draws: NDArray[np.float64], delta: float) -> NDArray[np.float64]:
    """Return the predictable plug-in bets for a known number of draws: sqrt(2 log(1 / delta) / (n variance)).

    The variance is that of the draws before each one, begun with one draw of variance 1/4.
    """
    n = draws.size
    counts = np.arange(1, n + 1)
    means = (0.5 + np.cumsum(draws)) / (counts + 1)
    variances = (0.25 + np.cumsum((draws - means) ** 2)) / (counts + 1)
    before = np.concatenate(([0.25], variances[:-1]))
    return np.asarray(np.sqrt(-2.0 * math.log(delta) / (n * before)), dtype=np.float64)
