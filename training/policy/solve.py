"""Solve: calibrators, exit band, unfamiliarity limit and policies from answers that no fit gave to its own rows.

Comes in: a regression and `LabelledLogOdds`: what each row was told by fits without its group. Goes out: `Solved`.
Training and recalibration both solve here; in the one the answers are out of fold, in the other the rows are new.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnout.serving.bundles.policy import Policy
from turnout.serving.bundles.risk_path import RiskPath, level_of
from turnout.training.dataset.costs import RequestCosts
from turnout.training.fit.calibrate import exit_band, fit_calibrator
from turnout.training.fit.calibrators import fit_platt
from turnout.training.fit.fit import LinearRouter
from turnout.training.fit.router import FittedRouter, HeadLogOdds
from turnout.training.fit.unfamiliar import Familiarity
from turnout.training.policy.by_task import ByTask, solve_by_task
from turnout.training.policy.default import default_policy
from turnout.training.policy.of_weak import solve_of_weak
from turnout.training.policy.policy import PolicyRows, as_in_traffic, risk_path, solve_policies


@dataclass(frozen=True)
class LabelledLogOdds:
    """Rows with what fits without their group say of them: raw log-odds of both heads, outcomes, groups, (n,) each.

    Attributes:
        rare_share: (n,) float32 of `training.fit.unfamiliar`; None where nothing is called out of distribution.
        costs: of the requests at either model; None where they are unknown.
        pair_propensity: (n,) as in `Dataset`; None where all are alike.
        fold: (n,) number of the fold that was held out; None where one regression, fitted on none of them, answered.
    """

    raw: HeadLogOdds
    match: NDArray[np.int64]
    strong_score: NDArray[np.float64]
    weak_score: NDArray[np.float64]
    group: NDArray[np.int64]
    rare_share: NDArray[np.float32] | None = None
    costs: RequestCosts | None = None
    pair_propensity: NDArray[np.float64] | None = None
    fold: NDArray[np.int64] | None = None

    def is_out_of_distribution(self, router: FittedRouter) -> NDArray[np.bool_]:
        """Return (n,) what a router calls so."""
        if router.familiarity is None or self.rare_share is None:
            return np.zeros(self.match.size, dtype=bool)
        return self.rare_share > router.familiarity.limit

    def take(self, rows: NDArray[np.int64]) -> LabelledLogOdds:
        """Return those rows only."""
        return LabelledLogOdds(
            HeadLogOdds(self.raw.fast[rows], self.raw.full[rows]),
            self.match[rows],
            self.strong_score[rows],
            self.weak_score[rows],
            self.group[rows],
            None if self.rare_share is None else self.rare_share[rows],
            self.costs and self.costs.take(rows),
            None if self.pair_propensity is None else self.pair_propensity[rows],
            None if self.fold is None else self.fold[rows],
        )


@dataclass(frozen=True)
class Solved:
    """A router, calibrated, with its policies.

    Attributes:
        router: calibrated on all rows.
        policies: as solved on `policy`.
        default: name of the default one.
        reason: why it is that one.
        risk: what any other level is solved from.
        policy: (m,) numbers of the rows that the policies were solved on: all, or those that are mixed as the traffic.
        by_task: what was solved task by task; its policies stand among the others.
    """

    router: FittedRouter
    policies: list[Policy]
    default: str
    reason: str
    risk: RiskPath
    policy: NDArray[np.int64]
    by_task: ByTask | None = None

    @property
    def default_threshold(self) -> float:
        """The threshold at which the figures are taken."""
        return next(policy.threshold for policy in self.policies if policy.name == self.default)


def solve(
    linear: LinearRouter,
    rows: LabelledLogOdds,
    seed: int,
    rare_idf: np.float32 | None = None,
    wanted: str = "",
    by_task: str = "",
    task: NDArray[np.str_] | None = None,
) -> Solved:
    """Calibrate, and solve the policies.

    Args:
        linear: the regression that will be served.
        rows: with rare shares where `rare_idf` is given.
        seed: of the draws.
        rare_idf: the weight from which n-grams are rare; None where nothing is called out of distribution.
        wanted: name of the default policy; empty leaves it to the rule.
        by_task: promise that is solved task by task too, such as `max_worse=0.02`; empty for none.
        task: (n,) names of the rows' tasks, where `by_task` is given.
    """
    router = calibrate(linear, rows, rare_idf)
    policy = np.arange(rows.match.size)
    if rows.pair_propensity is not None:
        policy = as_in_traffic(policy, rows.pair_propensity, seed)
    ours = rows.take(policy)
    policy_rows = PolicyRows(
        heads=calibrated(router, ours.raw),
        match=ours.match,
        strong_score=ours.strong_score,
        weak_score=ours.weak_score,
        group=ours.group,
        costs=ours.costs,
        is_out_of_distribution=ours.is_out_of_distribution(router),
    )
    level = level_of(wanted)
    policies = [
        *solve_policies(router, policy_rows, seed, [] if level is None else [level]),
        *solve_of_weak(router, policy_rows, seed),
    ]
    tasks = None
    if by_task and task is not None:
        tasks = solve_by_task(router, policy_rows, task[policy], by_task, seed)
        policies += tasks.policies
    default, reason = default_policy(policies, wanted)
    return Solved(router, policies, default, reason, risk_path(router, policy_rows, seed), policy, tasks)


def calibrate(linear: LinearRouter, rows: LabelledLogOdds, rare_idf: np.float32 | None) -> FittedRouter:
    """Fit calibrators, exit band and unfamiliarity limit on all of the rows."""
    fast = fit_platt(rows.raw.fast, rows.match)
    full = fit_calibrator(rows.raw.full, rows.match, rows.group)
    familiarity = None
    if rare_idf is not None and rows.rare_share is not None:
        familiarity = Familiarity.fitted(rare_idf, rows.rare_share)
    return FittedRouter(linear, fast, full, exit_band(fast(rows.raw.fast), full(rows.raw.full)), familiarity)


def calibrated(router: FittedRouter, raw: HeadLogOdds) -> HeadLogOdds:
    """Return the calibrated log-odds of raw ones."""
    return HeadLogOdds(router.fast_calibrator(raw.fast), router.full_calibrator(raw.full))
