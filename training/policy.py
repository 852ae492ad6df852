"""Policy: from a business rule to a threshold, on rows that neither fit nor calibration saw.

Comes in: both heads' log-odds and the outcomes of the policy part. Goes out: the policy table.
Every figure is that of the cascade as served: at another threshold the exit band lies elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from serving.bundle import Policy
from training.router import HeadLogOdds, Router

MAX_WORSE_TARGETS = (0.005, 0.01, 0.02, 0.05)
MAX_STRONG_SHARE_TARGETS = (0.1, 0.25, 0.5, 0.75)
DEFAULT_POLICY = "max_worse=0.01"
DELTA = 0.1
GRID = 400
"""Thresholds tried: quantiles of p_match in steps of 0.25 % of the rows."""


@dataclass(frozen=True)
class PolicyRows:
    """The policy part: both heads' log-odds, (n,) outcomes, and the group of each row."""

    heads: HeadLogOdds
    match: NDArray[np.int64]
    strong_score: NDArray[np.float64]
    weak_score: NDArray[np.float64]
    group: NDArray[np.int64]


def solve_policies(router: Router, rows: PolicyRows, seed: int) -> list[Policy]:
    """Return the policy table: `max_worse`, `max_strong_share`, always weak and always strong."""
    thresholds = _candidates(router, rows)
    draws = _one_row_a_group(rows.group, seed)
    return [
        *(max_worse(router, rows, thresholds, draws, target) for target in MAX_WORSE_TARGETS),
        *(max_strong_share(router, rows, thresholds, target) for target in MAX_STRONG_SHARE_TARGETS),
        describe(router, rows, "threshold", 0.0, threshold=0.0),
        describe(router, rows, "threshold", 1.0, threshold=1.0),
    ]


def max_worse(
    router: Router, rows: PolicyRows, thresholds: NDArray[np.float32], draws: NDArray[np.int64], target: float
) -> Policy:
    """Solve "at most a share `target` of requests gets a worse answer", with confidence 1 - `DELTA`.

    Fixed-sequence testing from the highest threshold down (Angelopoulos et al. 2021, section 4.2): each
    threshold is accepted while the exact binomial upper bound on the share made worse stays at or below
    the target, and the first refusal ends it. One row a group is drawn, so that the draws are
    independent where rows of a group are not.
    """
    accepted, bound = 1.0, binomial_upper_bound(0, draws.size, DELTA)
    if bound <= target:
        for threshold in thresholds[::-1]:
            worse = _goes_weak(router, rows, float(threshold))[draws] & (rows.match[draws] == 0)
            tried = binomial_upper_bound(int(worse.sum()), draws.size, DELTA)
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


def max_strong_share(router: Router, rows: PolicyRows, thresholds: NDArray[np.float32], target: float) -> Policy:
    """Solve "at most a share `target` of past traffic goes strong": the highest threshold that keeps to it."""
    for threshold in thresholds[::-1]:
        if 1.0 - _goes_weak(router, rows, float(threshold)).mean() <= target:
            return describe(router, rows, "max_strong_share", target, threshold=float(threshold))
    return describe(router, rows, "max_strong_share", target, threshold=0.0)


def describe(
    router: Router,
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
    weak = _goes_weak(router, rows, threshold)
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
    )


def binomial_upper_bound(n_events: int, n_draws: int, delta: float) -> float:
    """Return the exact upper confidence bound on a share (Clopper and Pearson 1934), at level 1 - delta."""
    if n_draws == 0 or n_events >= n_draws:
        return 1.0
    return float(beta.ppf(1.0 - delta, n_events + 1, n_draws - n_events))


def _goes_weak(router: Router, rows: PolicyRows, threshold: float) -> NDArray[np.bool_]:
    return router.cascade(rows.heads, threshold).p_match >= threshold


def _candidates(router: Router, rows: PolicyRows) -> NDArray[np.float32]:
    p_match = router.cascade(rows.heads, 0.5, early_exit=False).p_match
    grid = np.quantile(p_match, np.linspace(0.0, 1.0, GRID + 1))
    return np.unique(grid.astype(np.float32))


def _one_row_a_group(group: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    order = np.random.default_rng(seed).permutation(group.size)
    _, first = np.unique(group[order], return_index=True)
    return np.sort(order[first])
