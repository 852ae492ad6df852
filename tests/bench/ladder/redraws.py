"""How often a ladder breaks its promises on redraws of real rows.

Two ways. **Answers held fixed**: groups are drawn with replacement from the rows with their out-of-fold p's, the path
is traced and the promise solved on the draw, and all rows are the traffic. Nothing is fitted again: what is redrawn is
which rows tested the path. **Refitted**: groups are drawn without replacement, both heads are fitted, calibrated and
solved on them out of fold, and the fits on all of the draw answer every other group.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.special import expit
from scipy.stats import beta

from turnout.training.dataset.ladder import LadderRead
from turnout.training.encoders.embeddings import FeatureTable
from turnout.training.fit.fit import FitSettings, fit_router, outcome_classes
from turnout.training.fit.out_of_fold import LessonRows, out_of_fold
from turnout.training.fit.router import FittedRouter, HeadLogOdds, largest_weak_threshold
from turnout.training.fit.rungs import answer_rung, fit_rungs
from turnout.training.fit.unfamiliar import rare_weight, share_without_own_group
from turnout.training.policy.ladder import LadderRows
from turnout.training.policy.ladder_path import trace
from turnout.training.policy.ladder_solve import PROMISES
from turnout.training.policy.policy import SOLVED_DELTA
from turnout.training.policy.solve import LabelledLogOdds, calibrate, calibrated

TARGETS = (("max_worse", 0.01), ("max_worse", 0.02), ("max_worse", 0.05), ("min_quality", 0.98), ("min_quality", 0.99))


POINTS = 60
"""Of the path of a draw, where training tries 400: fewer candidates promise less and break no more."""


@dataclass
class Kept:
    """Of one promise: how often it was broken, and the share answered below the top, draw by draw."""

    broken: list[bool]
    below: list[float]

    def __str__(self) -> str:
        """Return both, with the exact 95 % interval of the first."""
        n, k = len(self.broken), sum(self.broken)
        low = beta.ppf(0.025, k, n - k + 1) if k else 0.0
        high = beta.ppf(0.975, k + 1, n - k) if k < n else 1.0
        return f"broken in {k} of {n} ({k / n:.1%}, {low:.1%} to {high:.1%}); below the top {np.mean(self.below):.1%}"


def held_fixed(rows: LadderRows, draws: int, groups: int, seed: int = 0) -> dict[str, Kept]:
    """Return by promise what `draws` draws of so many groups, with replacement, do to all rows, groups counted once."""
    order = np.argsort(rows.group, kind="stable")
    names, starts, sizes = np.unique(rows.group[order], return_index=True, return_counts=True)
    of_group = np.zeros(rows.group.max() + 1)
    of_group[names] = 1.0 / sizes / names.size
    weight = of_group[rows.group]
    kept = {f"{kind}={target:g}": Kept([], []) for kind, target in TARGETS}
    for draw in range(draws):
        rng = np.random.default_rng((seed, draw))
        drawn = rng.integers(0, names.size, groups)
        numbers = np.concatenate([order[starts[one] : starts[one] + sizes[one]] for one in drawn])
        ours = replace(rows.take(numbers), group=np.repeat(np.arange(groups), sizes[drawn]))
        path = trace(ours, points=POINTS)
        for kind, target in TARGETS:
            climb, _ = PROMISES[kind](ours, path, target, draw, SOLVED_DELTA)
            _note(kept[f"{kind}={target:g}"], rows, climb, kind, target, weight)
    return kept


def _note(kept: Kept, rows: LadderRows, climb: object, kind: str, target: float, weight: np.ndarray) -> None:
    if kind == "max_worse":
        over = float((climb.worse(rows) * weight).sum()) / float(weight.sum()) - target
    else:
        over = float(((climb.lost(rows) - (1.0 - target) * rows.score[:, -1]) * weight).sum())
    kept.broken.append(over > 0)
    kept.below.append(float(((climb.climbed(rows).rung < rows.top) * weight).sum() / weight.sum()))


def refitted(
    read: LadderRead,
    table: FeatureTable,
    usd: np.ndarray,
    settings: FitSettings,
    draws: int,
    n_rows: int,
    notes: Path | None = None,
) -> dict[str, Kept]:
    """Return by promise what `draws` draws of `n_rows` rows, each fitted anew, do to the rows of all other groups.

    `notes` gets a line of JSON a draw, and those that it has are not made again: a run that was ended goes on there.
    """
    kept = {f"{kind}={target:g}": Kept([], []) for kind, target in TARGETS}
    lines = notes.read_text().splitlines() if notes is not None and notes.exists() else []
    for noted in map(json.loads, lines[:draws]):
        for name, (broken, below) in noted.items():
            kept[name].broken.append(broken)
            kept[name].below.append(below)
    for draw in range(len(lines), draws):
        order = np.random.default_rng((7, draw)).permutation(np.unique(read.group))
        size = np.bincount(read.group)
        ours = np.isin(read.group, order[: int(np.searchsorted(np.cumsum(size[order]), n_rows)) + 1])
        drawn, traffic = np.flatnonzero(ours), np.flatnonzero(~ours)
        solved_on, asked = _fitted(read, table, usd, settings, drawn, traffic)
        path, weight = trace(solved_on), np.full(traffic.size, 1.0 / traffic.size)
        for kind, target in TARGETS:
            climb, _ = PROMISES[kind](solved_on, path, target, draw, SOLVED_DELTA)
            _note(kept[f"{kind}={target:g}"], asked, climb, kind, target, weight)
        if notes is not None:
            with notes.open("a") as file:
                file.write(
                    json.dumps({name: (bool(one.broken[-1]), one.below[-1]) for name, one in kept.items()}) + "\n"
                )
    return kept


def _fitted(
    read: LadderRead,
    table: FeatureTable,
    usd: np.ndarray,
    settings: FitSettings,
    drawn: np.ndarray,
    traffic: np.ndarray,
) -> tuple[LadderRows, LadderRows]:
    """Return the draw as its policies see it, and the traffic as the fits on all of the draw answer it."""
    ours, group, match = table.take(drawn), read.group[drawn], read.match[drawn]
    outcome = outcome_classes(match[:, 0], read.score[drawn, -1], read.score[drawn, 0])
    told = out_of_fold(LessonRows(ours, {settings.form: outcome}, match[:, 0], group), [settings], n_jobs=1)
    rare = rare_weight(drawn.size)
    linear = fit_router(ours, outcome, settings)
    labelled = LabelledLogOdds(
        HeadLogOdds(told.fast, told.full),
        match[:, 0],
        read.score[drawn, -1],
        read.score[drawn, 0],
        group,
        share_without_own_group(ours, group),
    )
    router: FittedRouter = calibrate(linear, labelled, rare)
    between = answer_rung(ours, match[:, 1], group, np.arange(drawn.size), np.ones(drawn.size), settings)
    fit = fit_rungs(ours, match[:, 1:], np.ones(drawn.size), [between], settings)
    heads, asked = calibrated(router, labelled.raw), table.take(traffic)
    answered = router.log_odds(asked)

    def rows(of: HeadLogOdds, p: np.ndarray, at: np.ndarray, unlike: np.ndarray) -> LadderRows:
        first = expit(largest_weak_threshold(of, router.exit_band))
        outcomes = read.match[at], read.score[at], usd[at], read.group[at]
        return LadderRows(first, p, *outcomes, heads=of, exit_band=router.exit_band, is_unlike=unlike)

    p_drawn = expit(fit.calibrators[0](between.raw))[:, None]
    return (
        rows(heads, p_drawn, drawn, labelled.is_out_of_distribution(router)),
        rows(answered, fit.p(asked), traffic, router.is_out_of_distribution(asked)),
    )
