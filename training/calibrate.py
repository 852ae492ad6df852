"""Calibrate: raw log-odds to probabilities that mean what they say, and the band in which the fast head may not answer.

Comes in: log-odds of the fast and the full head on the calibration part. Goes out: a `Calibrator` for
each head and the exit band. Fitted on rows that the regression never saw.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold

P_MIN = 1e-6
"""p_match stays in [1e-6, 1 - 1e-6]: nothing learned from thousands of rows justifies more."""

KNOT_GAP = 2e-2
"""Least distance in log-odds between two knots: closer ones have slopes of hundreds, and float32 then misses
the Python path by more than 1e-5."""

BAND_DISAGREEMENT = 0.004
"""Share of the calibration rows that the fast head may route otherwise than the full one."""

ISOTONIC_MIN_ROWS = 1000
"""Below it isotonic regression overfits (Niculescu-Mizil and Caruana 2005, section 4, figure 7)."""


@dataclass(frozen=True)
class Calibrator:
    """A monotone piecewise-linear map of log-odds to calibrated log-odds.

    Attributes:
        kind: `platt` or `isotonic`.
        x: (m,) float32 ascending knots of raw log-odds; one for platt.
        y: (m,) float32 calibrated log-odds at the knots.
        slope: for platt, the slope of the line through its one knot; 0 for isotonic.
    """

    kind: str
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    slope: float = 0.0

    def __call__(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return calibrated log-odds (n,), clipped to `P_MIN`."""
        limit = float(logit(1.0 - P_MIN))
        is_line = self.kind == "platt"
        calibrated = self.y[0] + self.slope * (z - self.x[0]) if is_line else np.interp(z, self.x, self.y)
        return np.asarray(np.clip(calibrated, -limit, limit), dtype=np.float64)


def fit_platt(z: NDArray[np.float64], match: NDArray[np.int64]) -> Calibrator:
    """Fit Platt's sigmoid with his smoothed targets (Platt 1999, section 2.2)."""
    n_match = int(match.sum())
    high, low = (n_match + 1.0) / (n_match + 2.0), 1.0 / (match.size - n_match + 2.0)
    target = np.where(match == 1, high, low)
    regression = LogisticRegression(C=1e6)
    regression.fit(
        np.concatenate((z, z))[:, None],
        np.repeat([1, 0], z.size),
        sample_weight=np.concatenate((target, 1.0 - target)),
    )
    slope = max(0.0, float(regression.coef_[0, 0]))  # a falling map would turn the ranking round
    intercept = float(regression.intercept_[0]) if slope else float(logit(target.mean()))
    return Calibrator("platt", np.zeros(1, np.float32), np.array([intercept], np.float32), float(np.float32(slope)))


def fit_isotonic(z: NDArray[np.float64], match: NDArray[np.int64]) -> Calibrator:
    """Fit isotonic regression (Zadrozny and Elkan 2002) on log-odds rounded to `KNOT_GAP`.

    The rounding keeps the knots apart; leaving knots out afterwards would turn steps into ramps below the
    data. It interpolates between knots in log-odds, so that the graph and this function share one formula.
    """
    margin = 1.0 / (match.size + 2.0)  # a block of matches only does not prove certainty
    rounded = np.round(z / KNOT_GAP) * KNOT_GAP
    isotonic = IsotonicRegression(y_min=margin, y_max=1.0 - margin, out_of_bounds="clip").fit(rounded, match)
    knots, values = isotonic.X_thresholds_, logit(isotonic.y_thresholds_)
    return Calibrator("isotonic", knots.astype(np.float32), values.astype(np.float32))


def fit_calibrator(z: NDArray[np.float64], match: NDArray[np.int64], group: NDArray[np.int64]) -> Calibrator:
    """Fit Platt or isotonic, whichever has the lower log loss out of fold (5 grouped folds)."""
    if match.size < ISOTONIC_MIN_ROWS:
        return fit_platt(z, match)
    losses = {fit: _out_of_fold_loss(fit, z, match, group) for fit in (fit_platt, fit_isotonic)}
    return min(losses, key=lambda fit: losses[fit])(z, match)


def exit_band(fast: NDArray[np.float64], full: NDArray[np.float64]) -> float:
    """Return the half-width, in calibrated log-odds, outside which the fast head may answer.

    The smallest one at which, for each threshold from the 1 % to the 99 % quantile of the full head's
    answers, at most `BAND_DISAGREEMENT` of the rows leave through the fast head with another route than
    the full head's.

    Args:
        fast: (n,) calibrated log-odds of the fast head on the calibration part.
        full: (n,) the same of the full head.
    """
    allowed = int(BAND_DISAGREEMENT * fast.size)
    widths = []
    for threshold in np.quantile(full, np.linspace(0.01, 0.99, 99)):
        disagree = (fast >= threshold) != (full >= threshold)
        distance = np.sort(np.abs(fast[disagree] - threshold))[::-1]
        widths.append(float(distance[allowed]) if distance.size > allowed else 0.0)
    return float(np.float32(np.nextafter(np.float32(max(widths)), np.float32(np.inf))))


def _out_of_fold_loss(
    fit: Callable[[NDArray[np.float64], NDArray[np.int64]], Calibrator],
    z: NDArray[np.float64],
    match: NDArray[np.int64],
    group: NDArray[np.int64],
) -> float:
    predicted = np.empty(z.size)
    for train, held_out in GroupKFold(5).split(z, groups=group):
        predicted[held_out] = expit(fit(z[train], match[train])(z[held_out]))
    return float(log_loss(match, predicted, labels=[0, 1]))
