"""What a ladder is worth: each rung's p, and what its policies do, on rows that were told without their group.

Comes in: the rows, what the rungs were told, and the solved policies. Goes out: `LadderFigures`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from turnout.serving.bundles.ladder import Rung
from turnout.serving.bundles.policy import Policy
from turnout.training.arrays import Floats
from turnout.training.dataset.ladder import LadderRead
from turnout.training.dataset.outcomes import Outcomes
from turnout.training.evaluation.bootstrap import TAILS, group_draws
from turnout.training.evaluation.evaluate import measure
from turnout.training.evaluation.figures import flat
from turnout.training.evaluation.ladder import LadderFigures, PolicyOverRungs, RungFigures
from turnout.training.learn.rungs_between import RungBetween, labelled
from turnout.training.policy.by_task import AT
from turnout.training.policy.ladder import LadderRows, LadderThresholds
from turnout.training.policy.ladder_solve import climb_of, climb_of_check, share_of_rungs

N_BOOTSTRAPS = 200
"""As of slices: enough for intervals of two digits; a rung's figures must not take as long as its fit."""


def ladder_figures(
    read: LadderRead,
    names: Sequence[str],
    told: Sequence[RungBetween],
    one: LadderRows,
    two: LadderRows | None,
    policies: Sequence[Policy],
    seed: int,
    kept: Mapping[int, Rung] | None = None,
) -> LadderFigures:
    """Return the figures; rung 0's p has its own in the evaluation, and the top has none.

    Args:
        read: the rows, with the labels they have.
        names: of the rungs, the cheapest first.
        told: what was said of each rung between.
        one: rows with all labels, for one look; none leaves shares out.
        two: the same for two looks; None without a second look.
        policies: as solved.
        seed: of the bootstraps.
        kept: by number, rungs that policies never take, for want of rows, as the manifest describes them.
    """
    rungs = [_rung(read, number, name, told, one, seed, (kept or {}).get(number)) for number, name in enumerate(names)]
    if not one.group.size:
        return LadderFigures(0, 0, rungs, [])
    policies = [policy for policy in policies if AT not in policy.name]  # those of a task are of its rows alone
    shares = [_shares(policy.name, 1, one, climb_of(policy), seed, is_met=policy.is_met) for policy in policies]
    if two is not None:
        shares += [
            _shares(policy.name, 2, two, climb_of_check(policy.checked), seed, is_met=policy.checked.is_met)
            for policy in policies
            if policy.checked is not None
        ]
    return LadderFigures(int(one.group.size), int(np.unique(one.group).size), rungs, shares)


def _rung(
    read: LadderRead, number: int, name: str, told: Sequence[RungBetween], one: LadderRows, seed: int, kept: Rung | None
) -> RungFigures:
    top = read.match.shape[1]
    if number == top:
        cost = 1.0 if one.is_priced and one.group.size else None
        return RungFigures(name, int(one.group.size), 1.0, {}, {}, 0.0, _over_top(one.score[:, -1], one), cost)
    figures: dict[str, float | None] = {}
    intervals: dict[str, tuple[float, float]] = {}
    if number and not kept:
        figures, intervals = _told(read, number, told[number - 1], seed)
    known = labelled(read, number)
    own = float(read.match[known, number].mean()) if known.size else None
    match_rate = kept.match_rate if own is None and kept else own
    is_known = not kept and one.group.size
    alone = None if match_rate is None else 1.0 - match_rate
    return RungFigures(
        name=name,
        rows=int(known.size),
        match_rate=match_rate,
        figures=figures,
        intervals=intervals,
        worse=float((one.match[:, number] == 0).mean()) if is_known else alone,
        quality=_over_top(one.score[:, number], one) if is_known else None,
        cost=float(one.usd[:, number].mean() / one.usd[:, -1].mean()) if one.is_priced and one.group.size else None,
    )


def _told(
    read: LadderRead, rung: int, told: RungBetween, seed: int
) -> tuple[dict[str, float | None], dict[str, tuple[float, float]]]:
    """Return the figures of a rung's p: calibrated by others than its own rows; the ranking is that of before."""
    if np.unique(read.match[told.rows, rung]).size < 2:
        return {}, {}
    calibration, ranking = (
        measure(_outcomes(read, rung, told, said), seed=seed, n_bootstraps=N_BOOTSTRAPS)
        for said in (told.p_fair, told.ranked)
    )
    figures, intervals = flat(calibration.metrics), dict(calibration.intervals)
    for name, value in flat(ranking.metrics).items():
        if name.split(".")[0] not in ("ece", "ece_floor", "brier", "log_loss"):
            figures[name], intervals[name] = value, ranking.intervals.get(name)
    return figures, {name: bounds for name, bounds in intervals.items() if bounds is not None}


def _outcomes(read: LadderRead, rung: int, told: RungBetween, p: Floats) -> Outcomes:
    records = [read.requests[row].record for row in told.rows]
    return Outcomes(
        p_match=p,
        match=read.match[told.rows, rung],
        strong_score=read.score[told.rows, -1],
        weak_score=read.score[told.rows, rung],
        source=[record.source or "" for record in records],
        group=read.group[told.rows],
        prompt_length=np.array([len(record.prompt.text) for record in records], dtype=np.float64),
        task=[record.task or "" for record in records],
        is_full=np.zeros(told.rows.size, dtype=bool),
    )


def _shares(
    policy: str, looks: int, rows: LadderRows, climb: LadderThresholds, seed: int, *, is_met: bool
) -> PolicyOverRungs:
    found, worse, usd = climb.climbed(rows), climb.worse(rows), climb.usd(rows)
    worse_within, cost_within = _intervals(rows, worse.astype(np.float64), usd, seed)
    return PolicyOverRungs(
        policy=policy,
        looks=looks,
        is_met=is_met,
        shares=list(share_of_rungs(rows, climb)),
        waits_twice=float(found.is_escalated.mean()),
        worse=float(worse.mean()),
        quality=_over_top(found.of(rows.score), rows),
        cost=float(usd.mean() / rows.usd[:, -1].mean()) if rows.is_priced else None,
        worse_interval=worse_within,
        cost_interval=cost_within if rows.is_priced else None,
    )


def _intervals(
    rows: LadderRows, worse: Floats, usd: Floats, seed: int
) -> tuple[tuple[float, float] | None, tuple[float, float] | None]:
    """Return the 95 % intervals of the share made worse, and of the cost over the top's, over draws of groups."""
    names, codes = np.unique(rows.group, return_inverse=True)
    sums = np.column_stack(
        [np.bincount(codes, weights=one) for one in (np.ones(worse.size), worse, rows.usd[:, -1], usd)]
    )
    drawn = [draw @ sums for draw in group_draws(np.arange(names.size), seed, N_BOOTSTRAPS)]
    if not drawn:
        return None, None
    n, n_worse, top, cost = np.array(drawn).T
    return _within(n_worse / n), _within(cost / top)


def _within(draws: Floats) -> tuple[float, float]:
    low, high = np.quantile(draws, TAILS).tolist()
    return low, high


def _over_top(score: Floats, rows: LadderRows) -> float | None:
    best = float(rows.score[:, -1].mean()) if rows.group.size else 0.0
    return float(score.mean()) / best if best > 0 else None
