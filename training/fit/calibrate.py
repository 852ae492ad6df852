"""Calibrate: choose the map to probabilities that mean what they say, and the band where the fast head may not answer.

Comes in: log-odds of the fast and the full head, each from a regression that never saw the row
(`turnout.training.fit.out_of_fold`). Goes out: a `Calibrator` for each head and the exit band.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.special import log_expit
from sklearn.model_selection import GroupKFold

from turnout.serving.router.exit_band import ExitBand
from turnout.training.fit.calibrators import Calibrator, fit_beta, fit_isotonic, fit_none, fit_platt, fit_temperature

Fit = Callable[[NDArray[np.float64], NDArray[np.int64]], Calibrator]

BAND_DISAGREEMENT = 0.003
"""Share of the rows, out of fold, that the fast head may route otherwise than the full one. At 0.004 it was 0.6 % of
2,000 reference prompts under the default policy, and 0.5 % is what it may be."""

BAND_REACH = 3
"""Percentiles on either side whose widest half-width holds. On halves of 4,000 reference rows, fresh rows disagreed on
up to 0.47 % with one, 0.68 % with two, 0.48 % with three; three ask the encoder 1 % oftener than one."""

ISOTONIC_MIN_ROWS = 1000
"""Below it isotonic regression overfits (Niculescu-Mizil and Caruana 2005)."""

N_FOLDS = 5
PREFERRED_FIRST: tuple[Fit, ...] = (fit_platt, fit_temperature, fit_none, fit_beta, fit_isotonic)
"""Platt unless another is better by more than the noise. On the reference rows 2,000 rows could not tell the first
four apart, and on the test Platt was ahead of none and temperature on both seeds (docs/decisions/training/0006)."""


def fit_calibrator(z: NDArray[np.float64], match: NDArray[np.int64], group: NDArray[np.int64]) -> Calibrator:
    """Fit the kind with the lowest log loss out of fold (5 grouped folds), or a preferred one that is as good.

    As good: its loss is above the lowest by no more than one standard error of their difference over the folds.

    Args:
        z: (n,) raw log-odds.
        match: (n,) 0 or 1.
        group: (n,) which rows stay together; at least five groups.
    """
    fits = PREFERRED_FIRST if match.size >= ISOTONIC_MIN_ROWS else PREFERRED_FIRST[:-1]
    losses = [_fold_losses(fit, z, match, group) for fit in fits]
    lowest = min(losses, key=np.mean)
    chosen = next(fit for fit, loss in zip(fits, losses, strict=True) if _is_as_good(loss, lowest))
    return chosen(z, match)


def exit_band(fast: NDArray[np.float64], full: NDArray[np.float64]) -> ExitBand:
    """Return the half-widths, in calibrated log-odds, outside which the fast head may answer.

    The smallest ones at which, for each percentile of the full head's answers as threshold, at most
    `BAND_DISAGREEMENT` of the rows leave through the fast head with another route than the full head's. Between
    two percentiles the widest of the three on either side holds, beyond the first and the last the widest of all.

    Args:
        fast: (n,) calibrated log-odds of the fast head, out of fold.
        full: (n,) the same of the full head.
    """
    allowed = int(BAND_DISAGREEMENT * fast.size)
    thresholds = np.quantile(full, np.linspace(0.01, 0.99, 99))
    widths = []
    for threshold in thresholds:
        disagree = (fast >= threshold) != (full >= threshold)
        distance = np.sort(np.abs(fast[disagree] - threshold))[::-1]
        widths.append(float(distance[allowed]) if distance.size > allowed else 0.0)
    padded = np.pad(widths, BAND_REACH - 1, mode="edge")
    between = sliding_window_view(padded, 2 * BAND_REACH).max(axis=1)
    half_widths = np.concatenate(([max(widths)], between, [max(widths)])).astype(np.float32)
    above = np.nextafter(half_widths, np.float32(np.inf))
    return ExitBand(tuple(thresholds.tolist()), tuple(above.astype(np.float64).tolist()))


def _is_as_good(loss: NDArray[np.float64], lowest: NDArray[np.float64]) -> bool:
    difference = loss - lowest
    standard_error = difference.std(ddof=1) / np.sqrt(difference.size)
    return bool(difference.mean() <= standard_error)


def _fold_losses(
    fit: Fit, z: NDArray[np.float64], match: NDArray[np.int64], group: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Mean log loss of each held-out fold."""
    losses = []
    for train, held_out in GroupKFold(N_FOLDS).split(z, groups=group):
        odds = fit(z[train], match[train])(z[held_out])
        losses.append(-log_expit(np.where(match[held_out] == 1, odds, -odds)).mean())
    return np.array(losses)
