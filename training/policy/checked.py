"""Policies with their rules over three actions: what stands under `checked` in the policy table.

Comes in: the policies solved for one look, and rows with both looks. Goes out: the same policies, each with the
thresholds of both looks where its kind has some, and what they do on the rows that tested them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from turnout.serving.bundles.policy import CheckedPolicy, Policy
from turnout.training.policy.by_task import AT, task_of
from turnout.training.policy.policy import DELTA, SOLVED_DELTA
from turnout.training.policy.three_actions import (
    LookedAt,
    Solved,
    Thresholds,
    max_worse,
    max_worse_of_weak,
    min_quality,
    trace_path,
    with_cap,
)

SOLVERS: dict[str, Callable[[LookedAt, Sequence[Thresholds], float, int, float], Solved]] = {
    "max_worse": max_worse,
    "min_quality": min_quality,
    "max_worse_of_weak": max_worse_of_weak,
}


def with_second_look(
    policies: Sequence[Policy],
    traced: LookedAt,
    tested: LookedAt,
    seed: int,
    *,
    max_wait_twice: float | None = None,
    level: float = SOLVED_DELTA,
) -> list[Policy]:
    """Return the policies with their rules over three actions, where their kind has one.

    Args:
        policies: solved for one look.
        traced: rows that only shape the path of candidates.
        tested: rows that no model which answers them was fitted on: they test the path.
        seed: of the draws.
        max_wait_twice: largest share of the traced rows that may wait for both models; None for no cap.
        level: probability of an error that each is solved at.
    """
    path = trace_path(traced) if max_wait_twice is None else with_cap(traced, max_wait_twice)

    def solved(policy: Policy) -> Policy:
        if policy.kind not in SOLVERS or AT in policy.name:
            return policy
        found = SOLVERS[policy.kind](tested, path, policy.target, seed, level)
        return msgspec.structs.replace(policy, checked=checked_policy(tested, found, DELTA))

    return [solved(policy) for policy in policies]


def with_second_look_by_task(
    policies: Sequence[Policy], rows: LookedAt, task: NDArray[np.str_], seed: int, level: float
) -> list[Policy]:
    """Return the policies; those of a task with their rules over three actions, traced and tested on its rows.

    Args:
        policies: all; those about all requests stay as they are.
        rows: that no model which answers them was fitted on.
        task: (n,) names.
        seed: of the draws.
        level: probability of an error that each is solved at.
    """

    def solved(policy: Policy) -> Policy:
        if AT not in policy.name:
            return policy
        ours = rows.take(np.flatnonzero(task == task_of(policy)))
        found = SOLVERS[policy.kind](ours, trace_path(ours), policy.target, seed, level)
        return msgspec.structs.replace(policy, checked=checked_policy(ours, found, DELTA))

    return [solved(policy) for policy in policies]


def always_try(policies: Sequence[Policy], rows: LookedAt, seed: int) -> dict[str, Thresholds]:
    """Return by policy what keeps its promise where every request is tried first; only those that are met."""
    path = trace_path(rows, kinds=("try",))
    found = {
        policy.name: SOLVERS[policy.kind](rows, path, policy.target, seed, SOLVED_DELTA)
        for policy in policies
        if policy.kind in SOLVERS and AT not in policy.name
    }
    return {name: solved.thresholds for name, solved in found.items() if solved.is_met}


def checked_policy(rows: LookedAt, solved: Solved, delta: float | None) -> CheckedPolicy:
    """Return what the thresholds do on the rows that tested them."""
    weak, accepted, escalated = solved.thresholds.actions(rows)
    shown = weak | accepted
    strong_mean = float(rows.strong_score.mean())
    quality = float(np.where(shown, rows.weak_score, rows.strong_score).mean())
    return CheckedPolicy(
        t_strong=solved.thresholds.t_strong,
        t_weak=solved.thresholds.t_weak,
        t_accept=solved.thresholds.t_accept,
        is_met=solved.is_met,
        share_weak=float(weak.mean()),
        share_tried=float((accepted | escalated).mean()),
        share_escalated=float(escalated.mean()),
        share_answered_weak=float(shown.mean()),
        quality_kept=quality / strong_mean if strong_mean > 0 else None,
        share_worse=float((shown & (rows.match == 0)).mean()),
        share_worse_bound=solved.bound,
        delta=delta,
        cost_ratio=float(solved.thresholds.usd(rows).mean() / rows.costs.strong.mean()),
    )
