"""Sampling: which rows to replay, by a stated plan, each with its exact probability of being drawn.

The probability is what makes the sample usable: `1 / pair_propensity` weighs a row back to the traffic.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

UNIFORM_SHARE = 0.2
"""Of the sample by uncertainty, how much is spread evenly: without it rows that the bundle is sure of would have
next to no chance, and weights without bound."""


class Plan(StrEnum):
    """How rows are chosen."""

    UNIFORM = "uniform"
    TASK = "task"
    """As many rows of each task, or all that it has."""
    UNCERTAINTY = "uncertainty"
    """In proportion to p_match (1 - p_match), the variance of the label as a bundle sees it."""


def uniform_shares(n: int, size: int) -> NDArray[np.float64]:
    """Return (n,) probabilities that are all the same and sum to `size`, or to n where that is less."""
    return scaled(np.ones(n), size)


def task_shares(tasks: Sequence[str], size: int) -> NDArray[np.float64]:
    """Return (n,) probabilities that give every task the same expected number of rows, as far as it has them."""
    rows_of = Counter(tasks)
    return scaled(np.array([1.0 / rows_of[task] for task in tasks]), size)


def uncertainty_shares(p_match: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Return (n,) probabilities in proportion to p (1 - p), over an even share; NaN counts as certain."""
    variance = np.nan_to_num(p_match * (1 - p_match), nan=0.0)
    mean = float(variance.mean()) if variance.size else 0.0
    if mean <= 0:
        return uniform_shares(p_match.size, size)
    return scaled((1 - UNIFORM_SHARE) * variance / mean + UNIFORM_SHARE, size)


def scaled(weights: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Return min(1, c * weight) with c such that they sum to `size`, or all ones where there are no more rows.

    Args:
        weights: (n,) above 0.
        size: of the sample wanted.
    """
    if size >= weights.size:
        return np.ones(weights.size)
    shares = np.zeros(weights.size)
    certain = np.zeros(weights.size, dtype=bool)
    while True:  # ends: each turn makes one more row certain, or none
        left = ~certain
        shares[left] = weights[left] * (size - certain.sum()) / weights[left].sum()
        over = left & (shares >= 1)
        if not over.any():
            return shares
        shares[over] = 1.0
        certain |= over


def draw(shares: NDArray[np.float64], strata: Sequence[str], seed: int) -> NDArray[np.int64]:
    """Return row numbers drawn with these very probabilities, in random order.

    Systematic sampling (Madow 1949): one random start on the running sum of the probabilities of the rows, which
    stand in random order within their stratum. The sample has the size they sum to, and each stratum its own
    expected number, rounded down or up.

    Args:
        shares: (n,) in (0, 1].
        strata: (n,) names; the same for all rows where there are none.
        seed: same rows and seed, same sample.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(shares.size)
    order = order[np.argsort(np.array(strata, dtype=object)[order], kind="stable")]
    running = np.cumsum(shares[order])
    running = running * (round(running[-1]) / running[-1]) if running.size else running  # rounding errors of the sum
    steps = np.floor(running - (1.0 - generator.random()))
    drawn = order[np.diff(steps, prepend=-1.0) > 0]
    return generator.permutation(drawn)
