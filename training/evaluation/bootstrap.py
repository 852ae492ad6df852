"""Bootstraps of groups: how far a metric could have come out otherwise.

Comes in: the group of each row. Goes out: row weights of each draw, and 95 % intervals. Groups are drawn,
not rows, because near-duplicates share their label and would make every interval too narrow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from turnout.training.arrays import Floats, Ints

TAILS = (0.025, 0.975)
MIN_DEFINED = 0.9
"""An interval needs this share of its draws defined, or it would speak of the lucky ones only."""

# Resampling adds its own noise to an ECE, which has no sign to cancel it: the percentiles are moved back by that bias.
_SHIFTED_BY_RESAMPLING = frozenset({"ece"})


def group_draws(group: Ints, seed: int, n_bootstraps: int) -> Iterator[Floats]:
    """Row weights (n,) of each draw: how often the row's group was drawn. No draws with a single group."""
    names, codes = np.unique(group, return_inverse=True)
    rng = np.random.default_rng(seed)
    for _ in range(n_bootstraps if len(names) > 1 else 0):
        drawn = np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))
        yield drawn[codes].astype(np.float64)


def interval(metric: str, point: float | None, draws: Sequence[float | None]) -> tuple[float, float] | None:
    """95 % percentile interval of a metric; None where it, or more than a tenth of its draws, is undefined."""
    defined = np.array([value for value in draws if value is not None])
    if point is None or len(defined) == 0 or len(defined) < MIN_DEFINED * len(draws):
        return None
    low, high = np.quantile(defined, TAILS).tolist()
    if metric in _SHIFTED_BY_RESAMPLING:
        shift = float(np.mean(defined)) - point
        low, high = low - shift, high - shift
        low = max(low, 0.0) if point >= 0 else low  # a difference of two may be negative, an ECE may not
    return low, high
