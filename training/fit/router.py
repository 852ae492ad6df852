"""The Python path of the router: what `router.onnx` must give, in float64 and for many rows at once.

`train` evaluates and solves policies with it on cached features; the export is held against it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from turnout.serving.router.exit_band import ExitBand
from turnout.training.encoders.embeddings import FeatureTable
from turnout.training.fit.calibrators import P_MIN, Calibrator
from turnout.training.fit.fit import LinearRouter
from turnout.training.fit.unfamiliar import Familiarity


@dataclass(frozen=True)
class HeadLogOdds:
    """Calibrated log-odds of a match, (n,) of each head."""

    fast: NDArray[np.float64]
    full: NDArray[np.float64]


@dataclass(frozen=True)
class Cascade:
    """What the cascade answers at one threshold: (n,) `p_match` and whether the encoder ran."""

    p_match: NDArray[np.float64]
    is_full: NDArray[np.bool_]


@dataclass(frozen=True)
class FittedRouter:
    """A fitted and calibrated router.

    Attributes:
        linear: the regression.
        fast_calibrator, full_calibrator: maps from raw to calibrated log-odds.
        exit_band: around the threshold, in calibrated log-odds, in which the full head answers.
        familiarity: what is out of distribution; None where nothing is ever called so.
    """

    linear: LinearRouter
    fast_calibrator: Calibrator
    full_calibrator: Calibrator
    exit_band: ExitBand
    familiarity: Familiarity | None = None

    def is_out_of_distribution(self, table: FeatureTable) -> NDArray[np.bool_]:
        """Return (n,) whether a prompt goes strong for being unlike the training data, at every threshold."""
        if self.familiarity is None:
            return np.zeros(table.counts.shape[0], dtype=bool)
        return self.familiarity.is_out_of_distribution(self.linear.scaler, table)

    def log_odds(self, table: FeatureTable) -> HeadLogOdds:
        """Return the calibrated log-odds of both heads."""
        fast, full = self.linear.log_odds(table)
        return HeadLogOdds(self.fast_calibrator(fast), self.full_calibrator(full))

    def cascade(self, heads: HeadLogOdds, threshold: float, *, early_exit: bool = True) -> Cascade:
        """Return what the graph returns at a threshold in [0, 1]."""
        return cascade(heads, threshold, self.exit_band, early_exit=early_exit)


def cascade(heads: HeadLogOdds, threshold: float, exit_band: ExitBand, *, early_exit: bool = True) -> Cascade:
    """Return the full head's answer within the band around the threshold, the fast head's elsewhere."""
    is_full = np.ones(heads.fast.size, dtype=bool)
    if early_exit:
        threshold_odds = threshold_log_odds(threshold)
        is_full = np.abs(heads.fast - threshold_odds) <= exit_band.at(threshold_odds)
    return Cascade(expit(np.where(is_full, heads.full, heads.fast)), is_full)


def largest_weak_threshold(heads: HeadLogOdds, exit_band: ExitBand) -> NDArray[np.float64]:
    """Return (n,) the largest threshold, in log-odds, at which the cascade still sends a row to the weak model.

    Each threshold has its own band, in which the full head answers: at one of half-width w a row goes weak up to the
    full head's log-odds, clipped to within w of the fast head's. This ranks the rows by what is routed at all
    thresholds, where `p_match` of a single one is mostly the fast head's.
    """
    found = np.full(heads.fast.size, -np.inf)
    for low, high, half_width in exit_band.steps():
        cut = np.clip(heads.full, heads.fast - half_width, heads.fast + half_width)
        np.maximum(found, np.minimum(cut, high), out=found, where=cut > low)
    return found


def threshold_log_odds(threshold: float) -> float:
    """Return the log-odds of a threshold, clipped as p_match is."""
    return float(logit(np.clip(threshold, P_MIN, 1.0 - P_MIN)))
