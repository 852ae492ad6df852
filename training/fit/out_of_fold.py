"""Out of fold: settings, and what each row is told by fits that have not seen its group.

Comes in: features, outcomes and groups of n rows. Goes out: `OutOfFold`, the chosen settings with the raw log-odds of
both heads. Calibrators, exit band, policies and figures rest on those; the published regression then learns from all
rows with the same settings.

Every candidate is fitted on the same folds, the parts of a fold are scaled once, and each fit starts from the one
before it in the same fold (never from another fold, whose fits have seen the rows that this one holds out). Fold f is
answered by what has the lowest loss on the other folds, so that no row's own loss chose the settings behind its answer.
That is not nested in full: the fits whose losses choose have learned from the rows of fold f. Full nesting would take
five times the fits, to choose one of at most 24 settings.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from joblib import Parallel, delayed
from sklearn.model_selection import GroupKFold

from turnout.training.arrays import Floats, Ints
from turnout.training.encoders.embeddings import FeatureTable
from turnout.training.fit.difficulty import Difficulty
from turnout.training.fit.fit import Blocks, FitSettings, Target, fit_scaler, soft_target
from turnout.training.fit.losses import row_losses
from turnout.training.fit.select import FEW_ROWS, choose
from turnout.training.fit.solver import Solution, fit_logistic

N_FOLDS = 5
"""Each fit sees 80 % of the rows: near enough to all of them for its calibration to carry over."""


@dataclass(frozen=True)
class OutOfFold:
    """What the rows got from fits without their group.

    Attributes:
        settings: what is best on all rows, for the final fit.
        by_fold: what each fold was answered with.
        fold: (n,) number of each row's fold.
        fast, full: (n,) raw log-odds of a match.
    """

    settings: FitSettings
    by_fold: tuple[FitSettings, ...]
    fold: Ints
    fast: Floats
    full: Floats


@dataclass(frozen=True)
class LessonRows:
    """Rows to learn from.

    Attributes:
        table: features of n rows.
        targets: form -> (n,) outcome, as `fit_router` takes it.
        match: (n,) 0 or 1.
        group: (n,) which rows stay together.
        weight: (n,) non-negative weights of the fit; None for equal ones.
        difficulty: other models' scores; each fold softens its own outcomes with them.
    """

    table: FeatureTable
    targets: Mapping[str, Ints]
    match: Ints
    group: Ints
    weight: Floats | None = None
    difficulty: Difficulty | None = None

    def take(self, rows: Ints) -> LessonRows:
        """Return those rows."""
        return LessonRows(
            self.table.take(rows),
            {form: outcome[rows] for form, outcome in self.targets.items()},
            self.match[rows],
            self.group[rows],
            None if self.weight is None else self.weight[rows],
            self.difficulty and self.difficulty.take(rows),
        )


def out_of_fold(
    lessons: LessonRows, candidates: Sequence[FitSettings], *, n_folds: int = N_FOLDS, n_jobs: int = -1
) -> OutOfFold:
    """Choose settings and return what the rows got out of fold.

    Args:
        lessons: n rows in at least `n_folds` groups.
        candidates: settings to choose from, each next to a similar one; one leaves nothing to choose.
        n_folds: grouped folds.
        n_jobs: processes, as joblib counts them.
    """
    match, group = lessons.match, lessons.group
    folds = list(GroupKFold(n_folds).split(match, groups=group))
    jobs = (delayed(_answers_of_fold)(lessons, candidates, *fold) for fold in folds)
    answers = np.empty((2, len(candidates), match.size))
    fold_of = np.empty(match.size, np.int64)
    for number, ((_, held_out), found) in enumerate(zip(folds, Parallel(n_jobs=n_jobs)(jobs), strict=True)):
        fold_of[held_out] = number
        answers[:, :, held_out] = found
    losses = {one: row_losses(answers[1, place], match) for place, one in enumerate(candidates)}

    def best(rows: np.ndarray) -> FitSettings:
        chosen = {one: loss[rows] for one, loss in losses.items()}
        return choose(chosen, group[rows], is_small=match.size <= FEW_ROWS)

    by_fold = tuple(best(fold_of != number) for number in range(n_folds))
    own = np.array([candidates.index(one) for one in by_fold])[fold_of]
    fast, full = answers[:, own, np.arange(match.size)]
    return OutOfFold(best(np.ones(match.size, dtype=bool)), by_fold, fold_of, fast, full)


def _answers_of_fold(lessons: LessonRows, candidates: Sequence[FitSettings], train: Ints, held_out: Ints) -> Floats:
    """Return (2, candidates, m) log-odds of the fast and the full head on the rows held out."""
    seen, asked = lessons.take(train), lessons.table.take(held_out)
    found = np.empty((2, len(candidates), held_out.size))
    places = {one: place for place, one in enumerate(candidates)}
    for _, same in itertools.groupby(candidates, key=lambda one: one.structural_scale):
        for settings, of_fast, of_full in _answers_of_chain(seen, asked, list(same)):
            found[:, places[settings]] = of_fast, of_full
    return found


def _answers_of_chain(
    seen: LessonRows, asked: FeatureTable, chain: Sequence[FitSettings]
) -> list[tuple[FitSettings, Floats, Floats]]:
    """Fit candidates of one structural scale, each from where the last one of its form ended."""
    scaler = fit_scaler(seen.table, chain[0])
    blocks = Blocks.of(seen.table, scaler)
    designs = {scale: blocks.design(scale) for scale in {0.0, *(one.dense_scale for one in chain)}}
    targets = {
        form: Target.of(outcome, form, soft_target(outcome, form, seen.difficulty))
        for form, outcome in seen.targets.items()
    }
    before: dict[str, tuple[FitSettings, Solution]] = {}
    fast: dict[tuple[str, float], Floats] = {}  # which knows no dense scale
    answers = []
    for one in chain:
        target, start = targets[one.form], None
        if one.form in before:
            settings, last = before[one.form]
            start = blocks.rescaled(last, settings.dense_scale / one.dense_scale)
        full = fit_logistic(designs[one.dense_scale], target.share, one.c, weight=seen.weight, start=start)
        before[one.form] = one, full
        key = one.form, one.c
        if key not in fast:
            near = blocks.without_dense(full, one.dense_scale)
            alone = fit_logistic(designs[0.0], target.share, one.c, weight=seen.weight, start=near)
            fast[key] = blocks.head(alone, target.matches, with_dense=False).log_odds(scaler, asked)
        head = blocks.head(full, target.matches, with_dense=True)
        of_full = head.log_odds(replace(scaler, dense_scale=one.dense_scale), asked)
        answers.append((one, fast[key], of_full))
    return answers
