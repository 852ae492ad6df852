"""What a ladder is worth: each rung's p, and what its policies do, on rows that were told without their group.

Comes in: the rows, what the rungs were told, and the solved policies. Goes out: `LadderFigures`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import expit

from turnout.serving.bundles.policy import Policy
from turnout.training.arrays import Floats
from turnout.training.dataset.ladder import NO_LABEL, LadderRead
from turnout.training.dataset.outcomes import Outcomes
from turnout.training.evaluation.evaluate import measure
from turnout.training.evaluation.figures import flat
from turnout.training.evaluation.ladder import LadderFigures, RungFigures, RungShares
from turnout.training.fit.calibrators import fit_platt
from turnout.training.fit.rungs import RungAnswers
from turnout.training.policy.ladder import Climb, LadderRows
from turnout.training.policy.ladder_solve import climb_of, climb_of_check, share_of_rungs

N_BOOTSTRAPS = 200
"""As of slices: enough for intervals of two digits; a rung's figures must not take as long as its fit."""


def ladder_figures(
    read: LadderRead,
    names: Sequence[str],
    answers: Sequence[RungAnswers],
    one: LadderRows,
    two: LadderRows | None,
    policies: Sequence[Policy],
    seed: int,
) -> LadderFigures:
    """Return the figures; rung 0's p has its own in the evaluation, and the top has none.

    Args:
        read: the rows, with the labels they have.
        names: of the rungs, the cheapest first.
        answers: what each rung between was told.
        one: rows with all labels, for one look.
        two: the same for two looks; None without a second look.
        policies: as solved.
        seed: of the bootstraps.
    """
    top = len(names) - 1
    rungs = []
    for rung, name in enumerate(names):
        figures: dict[str, float | None] = {}
        intervals: dict[str, tuple[float, float]] = {}
        if 0 < rung < top:
            figures, intervals = _told(read, rung, answers[rung - 1], seed)
        known = np.flatnonzero(read.match[:, rung] != NO_LABEL) if rung < top else np.arange(one.group.size)
        rungs.append(
            RungFigures(
                name=name,
                rows=int(known.size),
                match_rate=float(read.match[known, rung].mean()) if rung < top else 1.0,
                figures=figures,
                intervals=intervals,
                worse=float((one.match[:, rung] == 0).mean()) if rung < top else 0.0,
                quality=_over_top(one.score[:, rung], one),
                cost=float(one.usd[:, rung].mean() / one.usd[:, -1].mean()) if one.is_priced else None,
            )
        )
    shares = [_shares(policy.name, 1, one, climb_of(policy), is_met=policy.is_met) for policy in policies]
    if two is not None:
        shares += [
            _shares(policy.name, 2, two, climb_of_check(policy.checked), is_met=policy.checked.is_met)
            for policy in policies
            if policy.checked is not None
        ]
    return LadderFigures(int(one.group.size), int(np.unique(one.group).size), rungs, shares)


def _told(
    read: LadderRead, rung: int, told: RungAnswers, seed: int
) -> tuple[dict[str, float | None], dict[str, tuple[float, float]]]:
    """Return the figures of a rung's p: calibrated by the other folds; the ranking is that of the raw log-odds."""
    match = read.match[told.rows, rung]
    p = np.empty(match.size)
    for fold in np.unique(told.fold):
        held_out = told.fold == fold
        p[held_out] = expit(fit_platt(told.raw[~held_out], match[~held_out])(told.raw[held_out]))
    calibration, ranking = (
        measure(_outcomes(read, rung, told, said), seed=seed, n_bootstraps=N_BOOTSTRAPS)
        for said in (p, expit(told.raw))
    )
    figures, intervals = flat(calibration.metrics), dict(calibration.intervals)
    for name, value in flat(ranking.metrics).items():
        if name.split(".")[0] not in ("ece", "ece_floor", "brier", "log_loss"):
            figures[name], intervals[name] = value, ranking.intervals.get(name)
    return figures, {name: bounds for name, bounds in intervals.items() if bounds is not None}


def _outcomes(read: LadderRead, rung: int, told: RungAnswers, p: Floats) -> Outcomes:
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


def _shares(policy: str, looks: int, rows: LadderRows, climb: Climb, *, is_met: bool) -> RungShares:
    found = climb.climbed(rows)
    return RungShares(
        policy=policy,
        looks=looks,
        is_met=is_met,
        shares=list(share_of_rungs(rows, climb)),
        waits_twice=float(found.is_escalated.mean()),
        worse=float(climb.worse(rows).mean()),
        quality=_over_top(found.of(rows.score), rows),
        cost=float(climb.usd(rows).mean() / rows.usd[:, -1].mean()) if rows.is_priced else None,
    )


def _over_top(score: Floats, rows: LadderRows) -> float | None:
    best = float(rows.score[:, -1].mean())
    return float(score.mean()) / best if best > 0 else None
