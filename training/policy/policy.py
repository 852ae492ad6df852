"""Policy: from a business rule to a threshold, on what rows were told by fits that had not seen their group.

Comes in: both heads' log-odds and the outcomes of these rows. Goes out: the policy table.
Every figure is that of the cascade as served: at another threshold the exit band lies elsewhere, and what is out of
distribution goes strong at each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnout.serving.bundles.policy import Policy
from turnout.serving.bundles.risk_path import RiskPath
from turnout.training.dataset.costs import RequestCosts
from turnout.training.dataset.dataset import PROPENSITY_CLIP
from turnout.training.fit.router import FittedRouter, HeadLogOdds
from turnout.training.policy.guarantees import binomial_upper_bound, is_mean_shown_at_most

MAX_WORSE_TARGETS = (0.005, 0.01, 0.02, 0.05)
MIN_QUALITY_TARGETS = (0.95, 0.98, 0.99)
MAX_STRONG_SHARE_TARGETS = (0.1, 0.25, 0.5, 0.75)
COST_SHARES = (0.25, 0.5, 0.75)
"""Cost targets of the table, as shares of what it costs to send everything to the strong model."""

DEFAULT_POLICY = "max_worse=0.01"
LEAST_USE = 0.1
"""Share of the rows that the default policy sends to the weak model, where one that is met does."""

DELTA = 0.1
SOLVED_DELTA = 0.07
"""What is solved at where `DELTA` is promised: the rows' answers are those of fits on four fifths of them, and the fit
on all that is served ranks a little better and spreads a little more. Over 157 logs of 1,000 rows `max_worse=0.05` was
broken in 13.4 % of them at 0.1, in 9.6 % at 0.07 (docs/decisions/training/0012)."""

GRID = 400
"""Thresholds tried: quantiles of p_match in steps of 0.25 % of the rows."""


@dataclass(frozen=True)
class PolicyRows:
    """The policy part: both heads' log-odds, (n,) outcomes, the group of each row, and costs where known.

    Attributes:
        is_out_of_distribution: (n,) rows that go strong whatever the threshold; None for none.
    """

    heads: HeadLogOdds
    match: NDArray[np.int64]
    strong_score: NDArray[np.float64]
    weak_score: NDArray[np.float64]
    group: NDArray[np.int64]
    costs: RequestCosts | None = None
    is_out_of_distribution: NDArray[np.bool_] | None = None


def solve_policies(router: FittedRouter, rows: PolicyRows, seed: int, levels: Sequence[float] = ()) -> list[Policy]:
    """Return the policy table: each rule at its targets, `max_worse` at further levels, always weak, always strong."""
    thresholds = candidates(router, rows)
    draws = one_row_a_group(rows.group, seed)
    order = _groups_in_random_order(rows.group, seed)
    return [
        *(max_worse(router, rows, thresholds, draws, target) for target in sorted({*MAX_WORSE_TARGETS, *levels})),
        *(min_quality(router, rows, thresholds, order, target) for target in MIN_QUALITY_TARGETS),
        *(max_strong_share(router, rows, thresholds, target) for target in MAX_STRONG_SHARE_TARGETS),
        *_cost_policies(router, rows, thresholds),
        describe(router, rows, "threshold", 0.0, threshold=0.0),
        describe(router, rows, "threshold", 1.0, threshold=1.0),
    ]


def max_worse(
    router: FittedRouter,
    rows: PolicyRows,
    thresholds: NDArray[np.float32],
    draws: NDArray[np.int64],
    target: float,
    level: float = SOLVED_DELTA,
) -> Policy:
    """Solve "at most a share `target` of requests gets a worse answer", with confidence 1 - `DELTA`.

    It is solved at `level`.

    Fixed-sequence testing from the highest threshold down (Angelopoulos et al. 2021): each
    threshold is accepted while the exact binomial upper bound on the share made worse stays at or below
    the target, and the first refusal ends it. One row a group is drawn, so that the draws are
    independent where rows of a group are not.
    """
    accepted, bound = 1.0, binomial_upper_bound(0, draws.size, level)
    if bound <= target:
        for threshold in thresholds[::-1]:
            worse = goes_weak(router, rows, float(threshold))[draws] & (rows.match[draws] == 0)
            tried = binomial_upper_bound(int(worse.sum()), draws.size, level)
            if tried > target:
                break
            accepted, bound = float(threshold), tried
    is_met = accepted < 1.0
    return describe(
        router,
        rows,
        "max_worse",
        target,
        threshold=accepted,
        is_met=is_met,
        bound=bound if is_met else None,
        delta=DELTA,
    )


def risk_path(router: FittedRouter, rows: PolicyRows, seed: int) -> RiskPath:
    """Return what `max_worse` at any level can be solved from: the candidates from the highest down, with counts."""
    draws = one_row_a_group(rows.group, seed)
    thresholds = [float(one) for one in candidates(router, rows)[::-1] if 0.0 < one < 1.0]
    weak = [goes_weak(router, rows, one) for one in thresholds]
    worse = [one & (rows.match == 0) for one in weak]
    return RiskPath(
        tuple(thresholds),
        tuple(int(one[draws].sum()) for one in worse),
        tuple(float(one.mean()) for one in weak),
        tuple(float(one.mean()) for one in worse),
        int(draws.size),
        SOLVED_DELTA,
        DELTA,
    )


def min_quality(
    router: FittedRouter, rows: PolicyRows, thresholds: NDArray[np.float32], order: NDArray[np.int64], target: float
) -> Policy:
    """Solve "keep at least `target` of the strong model's mean score", with confidence 1 - `DELTA`.

    It is solved at `SOLVED_DELTA`.

    Learn-then-Test (Angelopoulos et al. 2021): fixed-sequence testing from the highest threshold down, each
    accepted while E[D] <= 0 is shown, where D is the score lost on a row less what may be lost. The mean
    is over groups, each counted once: the rows of one are not independent.

    Args:
        router: what routes.
        rows: the policy part.
        thresholds: ascending candidates.
        order: (n,) place of each row's group in a random order, from 0.
        target: share of the quality in (0, 1).
    """
    accepted = 1.0
    sizes = np.bincount(order)
    for threshold in thresholds[::-1]:
        lost = (rows.strong_score - rows.weak_score) * goes_weak(router, rows, float(threshold))
        spare = lost - (1.0 - target) * rows.strong_score
        means = np.bincount(order, weights=spare) / sizes
        if not is_mean_shown_at_most(means, 0.0, low=-1.0, high=target, delta=SOLVED_DELTA):
            break
        accepted = float(threshold)
    is_met = accepted < 1.0
    return describe(router, rows, "min_quality", target, threshold=accepted, is_met=is_met, delta=DELTA)


def max_strong_share(router: FittedRouter, rows: PolicyRows, thresholds: NDArray[np.float32], target: float) -> Policy:
    """Solve "at most a share `target` of past traffic goes strong": the highest threshold that keeps to it.

    Not met where more than that is out of distribution; all else goes weak then.
    """
    for threshold in thresholds[::-1]:
        if 1.0 - goes_weak(router, rows, float(threshold)).mean() <= target:
            return describe(router, rows, "max_strong_share", target, threshold=float(threshold))
    least = float(1.0 - goes_weak(router, rows, 0.0).mean())
    return describe(router, rows, "max_strong_share", target, threshold=0.0, is_met=least <= target)


def max_cost(
    router: FittedRouter, rows: PolicyRows, costs: RequestCosts, thresholds: NDArray[np.float32], target: float
) -> Policy:
    """Solve "past traffic costs at most `target` USD per 1,000 requests": the highest threshold that keeps to it.

    Nothing is met where even the cheapest routing costs more; everything goes strong then, as it does
    whenever a promise can't be kept: a budget never costs quality that nobody agreed to.
    """
    for threshold in (1.0, *map(float, thresholds[::-1]), 0.0):
        if costs.usd_per_1k(goes_weak(router, rows, threshold)) <= target:
            return describe(router, rows, "max_cost_usd_per_1k", target, threshold=threshold)
    return describe(router, rows, "max_cost_usd_per_1k", target, threshold=1.0, is_met=False)


def describe(
    router: FittedRouter,
    rows: PolicyRows,
    kind: str,
    target: float,
    *,
    threshold: float,
    is_met: bool = True,
    bound: float | None = None,
    delta: float | None = None,
) -> Policy:
    """Return the policy with what its threshold does on the policy part."""
    weak = goes_weak(router, rows, threshold)
    strong_mean = float(rows.strong_score.mean())
    quality = float(np.where(weak, rows.weak_score, rows.strong_score).mean())
    return Policy(
        name=f"{kind}={target:g}",
        kind=kind,
        target=target,
        threshold=threshold,
        is_met=is_met,
        share_weak=float(weak.mean()),
        quality_kept=quality / strong_mean if strong_mean > 0 else None,
        share_worse=float((weak & (rows.match == 0)).mean()),
        share_worse_bound=bound,
        delta=delta,
        cost_usd_per_1k=None if rows.costs is None else rows.costs.usd_per_1k(weak),
    )


def _cost_policies(router: FittedRouter, rows: PolicyRows, thresholds: NDArray[np.float32]) -> list[Policy]:
    """Solve `COST_SHARES` of the strong cost, in two digits; those that even the weak model exceeds are left out."""
    if rows.costs is None:
        return []
    nothing = np.zeros(rows.match.size, dtype=bool)
    least, strong = rows.costs.usd_per_1k(goes_weak(router, rows, 0.0)), rows.costs.usd_per_1k(nothing)
    targets = {float(f"{share * strong:.2g}") for share in COST_SHARES}
    return [max_cost(router, rows, rows.costs, thresholds, target) for target in sorted(targets) if target >= least]


def goes_weak(router: FittedRouter, rows: PolicyRows, threshold: float) -> NDArray[np.bool_]:
    """Return (n,) what goes weak at a threshold, as served."""
    is_above = router.cascade(rows.heads, threshold).p_match >= threshold
    return is_above if rows.is_out_of_distribution is None else is_above & ~rows.is_out_of_distribution


def candidates(router: FittedRouter, rows: PolicyRows) -> NDArray[np.float32]:
    """Return the ascending thresholds that are tried."""
    p_match = router.cascade(rows.heads, 0.5, early_exit=False).p_match
    grid = np.quantile(p_match, np.linspace(0.0, 1.0, GRID + 1))
    return np.unique(grid.astype(np.float32))


def as_in_traffic(rows: NDArray[np.int64], pair_propensity: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
    """Return ascending those of the (m,) row numbers that are kept so that their mix is that of the traffic.

    Exploration asks both models of some kinds of requests more often, and promises are about all requests. A row is
    kept with probability lowest propensity / its own: what is left are draws from the traffic, for which the bounds
    hold as they are. Where sure requests had both answers a fifth as often, `max_worse=0.01` solved on all rows was
    broken in 95 of 100 draws. Rows of unknown propensity come from logs that have both answers of every request:
    such a log is draws from the traffic already, and is kept whole beside an explored one.

    Args:
        rows: of the policy part.
        pair_propensity: (n,) of all rows, in (0, 1]; NaN where it is unknown.
        seed: of the draws.
    """
    of_rows = pair_propensity[rows]
    is_known = ~np.isnan(of_rows)
    if not is_known.any():
        return rows
    least = np.clip(of_rows[is_known].min(), PROPENSITY_CLIP, 1.0)
    kept = ~is_known | (np.random.default_rng(seed).random(rows.size) * of_rows <= least)
    return np.sort(rows[kept])


def one_row_a_group(group: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return ascending row numbers, one drawn at random from each group: independent where groups are."""
    order = np.random.default_rng(seed).permutation(group.size)
    _, first = np.unique(group[order], return_index=True)
    return np.sort(order[first])


def _groups_in_random_order(group: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    names, numbers = np.unique(group, return_inverse=True)
    places = np.random.default_rng(seed).permutation(names.size)
    return np.asarray(places[numbers], dtype=np.int64)
