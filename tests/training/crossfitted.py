"""Cross-fitting: every row teaches the regression, and calibrates it too.

Comes in: features, labels and settings. Goes out: a calibrated `FittedRouter`.

The calibrators, the exit band and the limit of what is out of distribution are fitted on what each row got from
a fit without its group; the regression that is kept then learns from all rows. A calibration part of its own would
cost 15 % of the rows, which is 0.007 to 0.009 AUROC on the reference rows (docs/decisions/training/0007).
"""

from __future__ import annotations

from turnout.training.arrays import Floats, Ints
from turnout.training.encoders.embeddings import FeatureTable
from turnout.training.fit.calibrate import exit_band, fit_calibrator
from turnout.training.fit.calibrators import fit_platt
from turnout.training.fit.difficulty import Difficulty
from turnout.training.fit.fit import FitSettings, fit_router
from turnout.training.fit.out_of_fold import LessonRows, out_of_fold
from turnout.training.fit.router import FittedRouter
from turnout.training.fit.unfamiliar import Familiarity, rare_weight, share_without_own_group


def fit_calibrated(
    table: FeatureTable,
    outcome: Ints,
    match: Ints,
    group: Ints,
    settings: FitSettings,
    *,
    weight: Floats | None = None,
    difficulty: Difficulty | None = None,
) -> FittedRouter:
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
    lessons = LessonRows(table, {settings.form: outcome}, match, group, weight, difficulty)
    answers = out_of_fold(lessons, [settings])
    fast, full = answers.fast, answers.full
    fast_calibrator, full_calibrator = fit_platt(fast, match), fit_calibrator(full, match, group)
    band = exit_band(fast_calibrator(fast), full_calibrator(full))
    linear = fit_router(table, outcome, settings, weight=weight, difficulty=difficulty)
    familiarity = Familiarity.fitted(rare_weight(outcome.size), share_without_own_group(table, group))
    return FittedRouter(linear, fast_calibrator, full_calibrator, band, familiarity)
