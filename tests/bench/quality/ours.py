"""Turnout inside a fold: settings, fit, calibrators and exit band as `turnout train` makes them.

Comes in: a fold. Goes out: (2, m) `p_match` of the cascade as served, and of the full head for every row.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from tests.bench.quality.questions import Fold
from training.crossfit import fit_calibrated
from training.fit import FitSettings
from training.progress import Reporter
from training.router import Router
from training.select import select_settings

SERVED_THRESHOLD = 0.93
"""Near where `max_worse=0.01` is solved on the gpt-4o rows: it places the exit band of the cascade."""


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
    """Return (2, m) p_match: of the cascade as served, and of the full model for every row."""
    heads = router.log_odds(fold.questions.table.take(fold.test))
    return np.stack([router.cascade(heads, SERVED_THRESHOLD).p_match, expit(heads.full)])
