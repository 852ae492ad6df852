"""Turnout inside a fold: settings, fit, calibrators and exit band as `turnout train` makes them.

Comes in: a fold. Goes out: (3, m): what ranks the rows as served, `p_match` as served, `p_match` of the full head.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from tests.bench.quality.questions import Fold
from training.crossfit import fit_calibrated
from training.fit import FitSettings
from training.progress import Reporter
from training.router import HeadLogOdds, Router
from training.select import select_settings

SERVED_THRESHOLD = 0.93
"""Near where `max_worse=0.01` is solved on the gpt-4o rows; calibration is that of the cascade's answers there."""

THRESHOLDS = expit(np.linspace(-5.0, 8.0, 651))
"""Of 0.007 to 0.9997, closer together than the ranks of neighbouring rows matter."""


def fit_ours(fold: Fold, *, wide: bool, with_scores: bool = False) -> tuple[Router, FitSettings]:
    """Choose settings on inner folds and fit on all training rows of the fold."""
    questions, train = fold.questions, fold.train
    match, group, table = questions.match[train], questions.group[train], questions.table.take(train)
    targets = {"binary": match}
    if questions.data.has_scores:
        targets = {"four_outcomes": questions.classes[train], **targets}
    chosen = select_settings(table, targets, match, group, wide=wide, reporter=Reporter(quiet=True))
    difficulty = questions.difficulty.take(train) if with_scores and questions.difficulty else None
    return fit_calibrated(table, targets[chosen.form], match, group, chosen, difficulty=difficulty), chosen


def answer(router: Router, fold: Fold) -> np.ndarray:
    """Return (3, m): what ranks the rows as served, p_match of the cascade, p_match of the full head.

    An operator who wants another share sets another threshold, and the exit band moves with it.
    """
    heads = router.log_odds(fold.questions.table.take(fold.test))
    ranks = share_of_thresholds_weak(router, heads)
    return np.stack([ranks, router.cascade(heads, SERVED_THRESHOLD).p_match, expit(heads.full)])


def share_of_thresholds_weak(router: Router, heads: HeadLogOdds) -> np.ndarray:
    """Return (m,) share of `THRESHOLDS` at which the cascade serves a row weak: one ranking for all of them."""
    weak = sum((router.cascade(heads, threshold).p_match >= threshold).astype(int) for threshold in THRESHOLDS)
    return weak / THRESHOLDS.size
