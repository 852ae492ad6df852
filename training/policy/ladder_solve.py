"""Policies of a ladder: the kinds of a pair's, each solved along one path of all thresholds.

Comes in: `LadderRows` and a path. Goes out: the policy table, and what any other level is solved from. Worse is worse
than the top. Fixed-sequence testing along the path, as for a pair: the path is set by p and costs alone, each point is
accepted while its bound stays within the promise, and the first refusal ends it. Counts need not rise for that to hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from turnout.serving.bundles.policy import NEVER, CheckedPolicy, Policy
from turnout.serving.bundles.risk_path import RiskPath
from turnout.training.policy.by_task import AT
from turnout.training.policy.guarantees import binomial_upper_bound, is_mean_shown_at_most
from turnout.training.policy.ladder import LadderRows, LadderThresholds, always_top
from turnout.training.policy.of_weak import MAX_WORSE_OF_WEAK_TARGETS
from turnout.training.policy.policy import (
    COST_SHARES,
    DELTA,
    MAX_STRONG_SHARE_TARGETS,
    MAX_WORSE_TARGETS,
    MIN_QUALITY_TARGETS,
    SOLVED_DELTA,
    one_row_a_group,
)

Path = Sequence[LadderThresholds]
Found = tuple[LadderThresholds, float | None]
"""The last accepted point, and the bound that it rests on; `always_top` where none was accepted."""


def max_worse(rows: LadderRows, path: Path, target: float, seed: int, level: float = SOLVED_DELTA) -> Found:
    """Solve "at most a share `target` of requests gets a worse answer than the top's", at level 1 - `level`."""
    drawn = rows.take(one_row_a_group(rows.group, seed))

    def bound(point: LadderThresholds) -> float:
        return binomial_upper_bound(int(point.worse(drawn).sum()), drawn.group.size, level)

    return _along(rows, path, bound, target)


def max_worse_of_weak(rows: LadderRows, path: Path, target: float, seed: int, level: float = SOLVED_DELTA) -> Found:
    """Solve "of what is answered below the top at most a share `target` is worse".

    The path begins where no worse answer among them would prove a quarter of the promise, which no outcome chose.
    """
    drawn = rows.take(one_row_a_group(rows.group, seed))

    def count(point: LadderThresholds) -> int:
        return int((point.climbed(drawn).rung < drawn.top).sum())

    def bound(point: LadderThresholds) -> float:
        n = count(point)
        return binomial_upper_bound(min(int(point.worse(drawn).sum()), n), n, level)

    enough = [point for point in path if binomial_upper_bound(0, count(point), level) <= target / 4]
    return _along(rows, enough, bound, target)


def min_quality(rows: LadderRows, path: Path, target: float, seed: int, level: float = SOLVED_DELTA) -> Found:
    """Solve "keep at least `target` of the top's mean score", by the betting bound on group means."""
    names, number = np.unique(rows.group, return_inverse=True)
    place = np.random.default_rng(seed).permutation(names.size)[number]
    sizes = np.bincount(place)
    accepted = always_top(rows.p_rungs.shape[1])
    for point in path:
        spare = point.lost(rows) - (1.0 - target) * rows.score[:, -1]
        means = np.bincount(place, weights=spare) / sizes
        if not is_mean_shown_at_most(means, 0.0, low=-1.0, high=target, delta=level):
            break
        accepted = point
    return accepted, None


PROMISES: dict[str, Callable[[LadderRows, Path, float, int, float], Found]] = {
    "max_worse": max_worse,
    "min_quality": min_quality,
    "max_worse_of_weak": max_worse_of_weak,
}


def solve_table(rows: LadderRows, path: Path, seed: int, levels: Sequence[float] = ()) -> list[Policy]:
    """Return the policies of one look, in the order of a pair's; `max_worse` at further levels too."""
    targets = {
        "max_worse": sorted({*MAX_WORSE_TARGETS, *levels}),
        "min_quality": MIN_QUALITY_TARGETS,
    }
    promised = [promise(rows, path, kind, target, seed) for kind, some in targets.items() for target in some]
    none = (NEVER,) * rows.p_rungs.shape[1]
    return [
        *promised,
        *(_max_share(rows, path, target) for target in MAX_STRONG_SHARE_TARGETS),
        *_budgets(rows, path),
        described(rows, "threshold", 0.0, LadderThresholds.of_one_look(0.0, none)),
        described(rows, "threshold", 1.0, always_top(len(none))),
        *(promise(rows, path, "max_worse_of_weak", target, seed) for target in MAX_WORSE_OF_WEAK_TARGETS),
    ]


def promise(rows: LadderRows, path: Path, kind: str, target: float, seed: int, level: float = SOLVED_DELTA) -> Policy:
    """Return one promise, solved at `level` for one look; everything goes to the top where it is not met."""
    climb, bound = PROMISES[kind](rows, path, target, seed, level)
    is_met = climb != always_top(rows.p_rungs.shape[1])
    return described(rows, kind, target, climb, is_met=is_met, bound=bound, delta=DELTA)


def risk_path(rows: LadderRows, path: Path, seed: int) -> RiskPath:
    """Return what `max_worse` at any level can be solved from: every point with its counts."""
    drawn = rows.take(one_row_a_group(rows.group, seed))
    points = [point for point in path if point != always_top(rows.p_rungs.shape[1])]
    climbed = [point.climbed(rows) for point in points]
    return RiskPath(
        tuple(_served(point.t_weak) for point in points),
        tuple(int(point.worse(drawn).sum()) for point in points),
        tuple(float((one.rung == 0).mean()) for one in climbed),
        tuple(float(point.worse(rows).mean()) for point in points),
        int(drawn.group.size),
        SOLVED_DELTA,
        DELTA,
        tuple(point.t_rungs for point in points),
    )


def with_second_look(
    policies: Sequence[Policy], rows: LadderRows, path: Path, seed: int, level: float = SOLVED_DELTA
) -> list[Policy]:
    """Return the policies with their rules over three actions, where their kind has one; rows have a second look."""

    def solved(policy: Policy) -> Policy:
        if policy.kind not in PROMISES or AT in policy.name:
            return policy
        climb, bound = PROMISES[policy.kind](rows, path, policy.target, seed, level)
        return msgspec.structs.replace(policy, checked=described_check(rows, climb, bound, DELTA))

    return [solved(policy) for policy in policies]


def described(
    rows: LadderRows,
    kind: str,
    target: float,
    climb: LadderThresholds,
    *,
    is_met: bool = True,
    bound: float | None = None,
    delta: float | None = None,
) -> Policy:
    """Return the policy over one look with what its thresholds do on the rows."""
    found = climb.climbed(rows)
    usd = climb.usd(rows)
    return Policy(
        name=f"{kind}={target:g}",
        kind=kind,
        target=target,
        threshold=_served(climb.t_weak),
        is_met=is_met,
        share_weak=float((found.rung == 0).mean()),
        quality_kept=_quality(rows, climb),
        share_worse=float(climb.worse(rows).mean()),
        share_worse_bound=bound,
        delta=delta,
        cost_usd_per_1k=1000.0 * float(usd.mean()) if rows.is_priced else None,
        t_rungs=climb.t_rungs,
    )


def described_check(
    rows: LadderRows, climb: LadderThresholds, bound: float | None, delta: float | None
) -> CheckedPolicy:
    """Return what the thresholds of both looks do on the rows."""
    found = climb.climbed(rows)
    answered = found.rung == 0
    return CheckedPolicy(
        t_strong=climb.t_strong,
        t_weak=climb.t_weak,
        t_accept=climb.t_accept,
        is_met=climb != always_top(rows.p_rungs.shape[1]),
        share_weak=float((answered & ~found.is_tried).mean()),
        share_tried=float(found.is_tried.mean()),
        share_escalated=float(found.is_escalated.mean()),
        share_answered_weak=float(answered.mean()),
        quality_kept=_quality(rows, climb),
        share_worse=float(climb.worse(rows).mean()),
        share_worse_bound=bound,
        delta=delta,
        cost_ratio=float(climb.usd(rows).mean() / rows.usd[:, -1].mean()),
        t_rungs=climb.t_rungs,
    )


def share_of_rungs(rows: LadderRows, climb: LadderThresholds) -> tuple[float, ...]:
    """Return (k,) the share of the rows that each rung answers."""
    counts = np.bincount(climb.climbed(rows).rung, minlength=rows.top + 1)
    return tuple((counts / counts.sum()).tolist())


def climb_of(policy: Policy) -> LadderThresholds:
    """Return the thresholds of a solved policy over one look."""
    return LadderThresholds.of_one_look(policy.threshold, () if policy.t_rungs is msgspec.UNSET else policy.t_rungs)


def climb_of_check(checked: CheckedPolicy) -> LadderThresholds:
    """Return the thresholds of a solved policy over two looks."""
    t_rungs = () if checked.t_rungs is msgspec.UNSET else checked.t_rungs
    return LadderThresholds(checked.t_strong, checked.t_weak, checked.t_accept, t_rungs)


def _served(threshold: float) -> float:
    """Return a threshold as `Policy` has it: 1 lets nothing go to the first rung."""
    return min(threshold, 1.0)


def _quality(rows: LadderRows, climb: LadderThresholds) -> float | None:
    best = float(rows.score[:, -1].mean())
    return float(climb.climbed(rows).of(rows.score).mean()) / best if best > 0 else None


def _along(rows: LadderRows, path: Path, bound: Callable[[LadderThresholds], float], target: float) -> Found:
    accepted: Found = always_top(rows.p_rungs.shape[1]), None
    for point in path:
        tried = bound(point)
        if tried > target:
            break
        accepted = point, tried
    return accepted


def _max_share(rows: LadderRows, path: Path, target: float) -> Policy:
    """Solve "at most a share `target` of past traffic goes to the top": the first point that keeps to it.

    Not met where more than that is out of distribution; the last point of the path holds then.
    """
    shares = [float((point.climbed(rows).rung == rows.top).mean()) for point in path]
    place = next((place for place, share in enumerate(shares) if share <= target), None)
    climb = path[-1] if place is None else path[place]
    return described(rows, "max_strong_share", target, climb, is_met=place is not None)


def _budgets(rows: LadderRows, path: Path) -> list[Policy]:
    """Solve `COST_SHARES` of the top's cost, in two digits: the first point that costs no more.

    Targets below the cheapest point of the path are left out, and all where prices are unknown.
    """
    if not rows.is_priced:
        return []
    costs = [1000.0 * float(point.usd(rows).mean()) for point in path]
    targets = sorted({float(f"{share * costs[0]:.2g}") for share in COST_SHARES})
    found = []
    for target in targets:
        place = next((place for place, cost in enumerate(costs) if cost <= target), None)
        if place is not None:
            found.append(described(rows, "max_cost_usd_per_1k", target, path[place]))
    return found
