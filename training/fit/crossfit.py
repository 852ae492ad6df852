"""Cross-fitting: every row of the fit and calibration parts teaches the regression, and calibrates it too.

Comes in: features and labels of both parts together. Goes out: a calibrated `Router`.

The calibrators, the exit band and the limit of what is out of distribution are fitted on what each row got from
a fit without its group; the regression that is kept then learns from all rows. A calibration part of its own would
cost 15 % of the rows, which is 0.007 to 0.009 AUROC on the reference rows (docs/decisions/training/0007).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from joblib import Parallel, delayed
from sklearn.model_selection import GroupKFold

from turnout.training.arrays import Floats, Ints
from turnout.training.encoders.embeddings import FeatureTable
from turnout.training.fit.calibrate import exit_band, fit_calibrator
from turnout.training.fit.calibrators import fit_platt
from turnout.training.fit.difficulty import Difficulty
from turnout.training.fit.fit import FitSettings, fit_router
from turnout.training.fit.router import HeadLogOdds, Router
from turnout.training.fit.unfamiliar import Familiarity, rare_weight, share_without_own_group

N_FOLDS = 5
"""Each out-of-fold fit sees 80 % of the rows: near enough to all of them for its calibration to carry over."""


@dataclass(frozen=True)
class CrossFitted:
    """A calibrated router, and the calibrated log-odds that its rows got out of fold."""

    router: Router
    heads: HeadLogOdds


def fit_calibrated(
    table: FeatureTable,
    outcome: Ints,
    match: Ints,
    group: Ints,
    settings: FitSettings,
    *,
    weight: Floats | None = None,
    difficulty: Difficulty | None = None,
) -> CrossFitted:
    """Fit both heads on all rows; their calibrators, the exit band and the limit on what rows got out of fold.

    Args:
        table: features of n rows.
        outcome: (n,) target of the fit, as `fit_router` takes it.
        match: (n,) 0 or 1, what is calibrated against.
        group: (n,) which rows stay together; at least five groups.
        settings: form, C and scales.
        weight: (n,) non-negative weights of the fit; equal when None.
        difficulty: other models' scores of the rows; each fold softens its own labels with them.
    """
    fast, full = out_of_fold(table, outcome, group, settings, weight=weight, difficulty=difficulty)
    fast_calibrator, full_calibrator = fit_platt(fast, match), fit_calibrator(full, match, group)
    heads = HeadLogOdds(fast_calibrator(fast), full_calibrator(full))
    band = exit_band(heads.fast, heads.full)
    linear = fit_router(table, outcome, settings, weight=weight, difficulty=difficulty)
    familiarity = Familiarity.fitted(rare_weight(outcome.size), share_without_own_group(table, group))
    return CrossFitted(Router(linear, fast_calibrator, full_calibrator, band, familiarity), heads)


def out_of_fold(
    table: FeatureTable,
    outcome: Ints,
    group: Ints,
    settings: FitSettings,
    *,
    weight: Floats | None = None,
    difficulty: Difficulty | None = None,
) -> tuple[Floats, Floats]:
    """Return the raw log-odds of a match, (n,) of the fast and (n,) of the full head, from fits on other groups."""
    folds = list(GroupKFold(N_FOLDS).split(outcome, groups=group))
    jobs = (delayed(_held_out)(table, outcome, settings, weight, difficulty, *fold) for fold in folds)
    fast, full = np.empty(outcome.size), np.empty(outcome.size)
    for (_, held_out), found in zip(folds, Parallel(n_jobs=-1)(jobs), strict=True):
        fast[held_out], full[held_out] = found
    return fast, full


def _held_out(
    table: FeatureTable,
    outcome: Ints,
    settings: FitSettings,
    weight: Floats | None,
    difficulty: Difficulty | None,
    train: Ints,
    held_out: Ints,
) -> tuple[Floats, Floats]:
    fold_weight = None if weight is None else weight[train]
    fold_difficulty = difficulty and difficulty.take(train)
    router = fit_router(table.take(train), outcome[train], settings, weight=fold_weight, difficulty=fold_difficulty)
    return router.log_odds(table.take(held_out))
