"""`max_worse_of_weak`: of what the weak model answers at most a share is worse; what its users feel.

Comes in: the policy part. Goes out: policies. `max_worse` counts all requests, so that a router that sends few to the
weak model may send bad ones; this counts only those.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from turnout.serving.bundles.policy import Policy
from turnout.training.fit.router import FittedRouter
from turnout.training.policy.guarantees import binomial_upper_bound
from turnout.training.policy.policy import (
    DELTA,
    SOLVED_DELTA,
    PolicyRows,
    candidates,
    describe,
    goes_weak,
    one_row_a_group,
)

MAX_WORSE_OF_WEAK_TARGETS = (0.02, 0.05)
"""On the reference rows 11 % of the weak model's answers are worse. 1 % is met by neither one look nor two there."""


def solve_of_weak(router: FittedRouter, rows: PolicyRows, seed: int) -> list[Policy]:
    """Return the policies at the table's targets, solved for one look at `SOLVED_DELTA`."""
    draws = one_row_a_group(rows.group, seed)
    thresholds = candidates(router, rows)[::-1]
    weak = np.array([goes_weak(router, rows, float(threshold))[draws] for threshold in thresholds])
    n_weak, n_worse = weak.sum(axis=1), (weak & (rows.match[draws] == 0)).sum(axis=1)
    return [_solved(router, rows, thresholds, n_weak, n_worse, target) for target in MAX_WORSE_OF_WEAK_TARGETS]


def _solved(
    router: FittedRouter,
    rows: PolicyRows,
    thresholds: NDArray[np.float32],
    n_weak: NDArray[np.int64],
    n_worse: NDArray[np.int64],
    target: float,
) -> Policy:
    """Test from the highest threshold down on which no worse answer at all would prove a quarter of the promise.

    Above it too few rows go weak to show anything. That place follows from p_match alone, and no outcome chose it.
    """
    accepted, reached = 1.0, None
    for threshold, n, worse in zip(thresholds.tolist(), n_weak.tolist(), n_worse.tolist(), strict=True):
        if binomial_upper_bound(0, n, SOLVED_DELTA) > target / 4:
            continue
        bound = binomial_upper_bound(worse, n, SOLVED_DELTA)
        if bound > target:
            break
        accepted, reached = threshold, bound
    return describe(
        router,
        rows,
        "max_worse_of_weak",
        target,
        threshold=accepted,
        is_met=reached is not None,
        bound=reached,
        delta=DELTA,
    )
