"""Turnout inside a fold: settings, fit, calibrators and exit band as `turnout train` makes them.

Comes in: a fold. Goes out: (3, m): what the cascade routes by over all thresholds, as a probability, its `p_match` at
one threshold, and that of the full head for every row. `strangers` says which rows serving would not rank at all.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from tests.bench.quality.questions import Fold
from tests.training.crossfitted import fit_calibrated
from turnout.training.fit.fit import FitSettings, fit_scaler
from turnout.training.fit.out_of_fold import LessonRows, out_of_fold
from turnout.training.fit.router import FittedRouter, largest_weak_threshold
from turnout.training.fit.select import candidates_of
from turnout.training.fit.unfamiliar import Familiarity, rare_weight, share_without_own_group

SERVED_THRESHOLD = 0.93
"""Near where `max_worse=0.01` is solved on the gpt-4o rows: calibration as served is that of `p_match` there."""


def fit_ours(fold: Fold, *, wide: bool, with_scores: bool = False) -> tuple[FittedRouter, FitSettings]:
    """Choose settings on inner folds and fit on all training rows of the fold."""
    questions, train = fold.questions, fold.train
    match, group, table = questions.match[train], questions.group[train], questions.table.take(train)
    targets = {"binary": match}
    if questions.data.has_scores:
        others = {} if with_scores else targets  # as `turnout train --scores`
        targets = {"four_outcomes": questions.classes[train], **others}
    difficulty = questions.difficulty.take(train) if with_scores and questions.difficulty else None
    lessons = LessonRows(table, targets, match, group, None, difficulty)
    chosen = out_of_fold(lessons, candidates_of(list(targets), match.size, wide=wide)).settings
    return fit_calibrated(table, targets[chosen.form], match, group, chosen, difficulty=difficulty), chosen


def answer(router: FittedRouter, fold: Fold) -> np.ndarray:
    """Return (3, m): the largest threshold at which a row goes weak, p_match as served at one, and the full head's."""
    heads = router.log_odds(fold.questions.table.take(fold.test))
    routes_by = expit(largest_weak_threshold(heads, router.exit_band))
    return np.stack([routes_by, router.cascade(heads, SERVED_THRESHOLD).p_match, expit(heads.full)])


def strangers(fold: Fold) -> np.ndarray:
    """Return (m,) what is out of distribution, which goes strong in serving; the rule of `fit_calibrated` on the fold.

    No router is fitted for it: n-grams are counted on the training rows, whatever the settings.
    """
    questions, train = fold.questions, fold.train
    table = questions.table.take(train)
    familiarity = Familiarity.fitted(rare_weight(train.size), share_without_own_group(table, questions.group[train]))
    return familiarity.is_out_of_distribution(fit_scaler(table, FitSettings()), questions.table.take(fold.test))
