"""Division: which rows a challenger learns from, and which neither it nor the champion has seen, to compare them on.

Comes in: labelled rows, old and new, in groups. Goes out: a part for each row.

The test are the latest of the fresh groups: those without any row that is old or that the champion has seen. All that
the challenger learns from is earlier. Where rows do not say when they were made, the test is drawn. The policy part is
drawn, from old and fresh groups alike: the latest of all would be most of what is new, and nothing would teach it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnout.training.arrays import Floats, Ints
from turnout.training.dataset.splits import Part

POLICY_SHARE = 0.125
"""Of the old groups, and of the fresh ones that are not the test: what `training.dataset.splits` takes (0.1 of 0.8)."""

LEFT_OUT = -1
"""Part of rows that neither teach nor test: made after the first row of the test, in groups that are not fresh, or made
before it, in groups of the test."""


@dataclass(frozen=True)
class Division:
    """What each row is used for.

    Attributes:
        part: (n,) of `Part`, or `LEFT_OUT`.
        is_later: whether every row of the test was made after every row that is learned from.
    """

    part: Ints
    is_later: bool


def divide(group: Ints, created: Floats, is_known: NDArray[np.bool_], *, test_share: float, seed: int) -> Division:
    """Divide rows by group.

    Args:
        group: (n,) group of each row.
        created: (n,) seconds since the epoch; NaN where unknown.
        is_known: (n,) whether the row is old, or seen by the champion.
        test_share: of the fresh groups.
        seed: of the draws.
    """
    n_groups = int(group.max()) + 1
    is_fresh = np.ones(n_groups, dtype=bool)
    is_fresh[group[is_known]] = False
    is_later = not np.isnan(created).any()
    order = _order(group, created, n_groups, seed, by_time=is_later)
    fresh = order[is_fresh[order]]
    test = fresh[fresh.size - int(test_share * fresh.size) :]
    part_of_group = np.full(n_groups, int(Part.FIT))
    part_of_group[test] = Part.TEST
    rng = np.random.default_rng(seed)
    for kind in (is_fresh, ~is_fresh):
        learned = rng.permutation(np.flatnonzero(kind & (part_of_group == Part.FIT)))
        part_of_group[learned[: int(POLICY_SHARE * learned.size)]] = Part.POLICY
    part = part_of_group[group]
    if is_later and test.size:
        part = _kept_in_time(part, created, cut=_latest(group, created, n_groups)[fresh[: fresh.size - test.size]])
    return Division(part, is_later)


def _order(group: Ints, created: Floats, n_groups: int, seed: int, *, by_time: bool) -> Ints:
    """Return the groups from the first to the last; one is as late as its last row."""
    if not by_time:
        return np.random.default_rng(seed).permutation(n_groups)
    return np.argsort(_latest(group, created, n_groups), kind="stable")


def _latest(group: Ints, created: Floats, n_groups: int) -> Floats:
    latest = np.full(n_groups, -np.inf)
    np.maximum.at(latest, group, created)
    return latest


def _kept_in_time(part: Ints, created: Floats, cut: Floats) -> Ints:
    """Leave out what would have the challenger learn from the time of the test, or be tested on that before."""
    if not cut.size:
        return part
    is_after = created > cut.max()
    is_misplaced = np.where(part == Part.TEST, ~is_after, is_after)
    return np.where(is_misplaced, LEFT_OUT, part)
