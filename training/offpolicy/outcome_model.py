"""The outcome model of the doubly robust estimate: what an answer would have scored or cost, had it been asked for.

Comes in: logged rows. Goes out: (n, k) predictions, k being 2 or the rungs of a ladder, each by a model that saw no row
of the same session. Doubly robust estimates need the cross-fitting for their intervals (Chernozhukov et al. 2018); a
bad model only widens them, as long as the propensities are right.
"""

from __future__ import annotations

import numpy as np
from scipy.special import logit
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold
from sklearn.preprocessing import SplineTransformer

from turnout.training.arrays import Bools, Floats
from turnout.training.offpolicy.rows import LoggedRows

N_FOLDS = 5
MIN_ROWS = 50
"""Fewer outcomes than this give their mean and no curve."""

P_MIN = 1e-6
PENALTY = 1.0


def predicted_scores(rows: LoggedRows) -> Floats:
    """Return (n, k) predicted scores: ridge regression on splines of p and length, a model for each tier or rung."""
    design = _design(rows)
    predicted = np.empty_like(rows.score)
    for tier in range(rows.top + 1):
        score = rows.score[:, tier]
        known = ~np.isnan(score)
        for train, held in _folds(rows):
            predicted[held, tier] = _fitted(design, score, known & train, held)
    return predicted


def predicted_usd(rows: LoggedRows) -> Floats:
    """Return (n, k) predicted costs: the expected ones, times the ratio of real to expected where both are known."""
    predicted = np.empty_like(rows.usd)
    for tier in range(rows.top + 1):
        usd, expected = rows.usd[:, tier], rows.expected_usd[:, tier]
        known = ~np.isnan(usd) & ~np.isnan(expected)
        for train, held in _folds(rows):
            seen = known & train
            total = float(expected[seen].sum())
            predicted[held, tier] = expected[held] * (float(usd[seen].sum()) / total if total > 0 else 1.0)
    return predicted


def predicted_tries(rows: LoggedRows, outcome: Floats) -> Floats:
    """Return (n,) what trying would have come to, from the (n,) outcomes of tries; NaN where one is unknown."""
    known, predicted = ~np.isnan(outcome), np.zeros(len(rows))
    if not known.any():
        return predicted
    design = _design(rows)
    for train, held in _folds(rows):
        predicted[held] = _fitted(design, outcome, known & train, held)
    return predicted


def _design(rows: LoggedRows) -> Floats:
    """Return (n, m): splines of the log-odds of each p (0 without it) and of the length, and who else decided."""
    p = np.column_stack([rows.p_match, rows.p_rungs])
    log_odds = np.nan_to_num(logit(np.clip(p, P_MIN, 1 - P_MIN)))
    numbers = np.column_stack([log_odds, np.log1p(np.nan_to_num(rows.tokens))])
    curves = numbers if len(rows) < MIN_ROWS else SplineTransformer(n_knots=4, degree=3).fit_transform(numbers)
    return np.column_stack([curves, rows.is_ruled, rows.is_unfamiliar])


def _folds(rows: LoggedRows) -> list[tuple[Bools, Bools]]:
    """Return (train, held out) of each fold, no session on both sides; nothing to train on with a single session."""
    n_sessions = len(np.unique(rows.session))
    everything = np.ones(len(rows), dtype=bool)
    if n_sessions < 2:
        return [(~everything, everything)]
    folds = []
    for _, held in GroupKFold(min(N_FOLDS, n_sessions)).split(rows.session, groups=rows.session):
        is_held = np.zeros(len(rows), dtype=bool)
        is_held[held] = True
        folds.append((~is_held, is_held))
    return folds


def _fitted(design: Floats, outcome: Floats, seen: Bools, held: Bools) -> Floats:
    """Return the predictions for held-out rows, within the range of what was seen."""
    n_held = int(held.sum())
    if not seen.any():
        return np.zeros(n_held)
    if seen.sum() < MIN_ROWS:
        return np.full(n_held, outcome[seen].mean())
    model = Ridge(PENALTY).fit(design[seen], outcome[seen])
    return np.asarray(np.clip(model.predict(design[held]), outcome[seen].min(), outcome[seen].max()))
