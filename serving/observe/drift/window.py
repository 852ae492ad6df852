"""The last requests of one bundle in one worker, as counts by bin of its baseline; memory and time are bounded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from turnout.serving.bundles.baseline import Baseline
from turnout.serving.observe.drift.calibration import CUTS, SUMS

WINDOW = 1000
"""Requests of a worker that are compared: enough for chance to stay below the floor of the PSI's limit (0.04 against
0.1, with 4,000 rows in the baseline), few enough for a shift to fill it soon."""


class RequestWindow:
    """A ring of the bins of the last `WINDOW` requests; one byte a request and measure.

    Attributes:
        baseline: whose bins these are.
    """

    def __init__(self, baseline: Baseline) -> None:
        """Begin empty."""
        self.baseline = baseline
        self._codes = np.zeros((WINDOW, len(baseline.bins)), np.uint8)
        self._n_seen = 0

    def add(self, values: NDArray[np.float64]) -> None:
        """Take in (r, measures) values, in the order of `Baseline.bins`; older ones leave."""
        values = values[-WINDOW:]
        places = (self._n_seen + np.arange(len(values))) % WINDOW
        for column, bins in enumerate(self.baseline.bins):
            self._codes[places, column] = bins.codes(values[:, column])
        self._n_seen += len(values)

    def counts(self) -> list[list[int]]:
        """Return the requests in each bin, measure by measure."""
        codes = self._codes[: min(self._n_seen, WINDOW)]
        return [
            np.bincount(codes[:, column], minlength=len(bins.n)).tolist()
            for column, bins in enumerate(self.baseline.bins)
        ]


class OutcomeWindow:
    """A ring of the last `WINDOW` outcomes that say whether a decision's prediction came true."""

    def __init__(self) -> None:
        """Begin empty."""
        self._pairs = np.zeros((WINDOW, 2))
        self._n_seen = 0

    def add(self, p_match: float, match: int) -> None:
        """Take in one; the oldest leaves."""
        self._pairs[self._n_seen % WINDOW] = p_match, match
        self._n_seen += 1

    def sums(self) -> list[list[float]]:
        """Return what `outcome_sums` does of those held."""
        p_match, match = self._pairs[: min(self._n_seen, WINDOW)].T
        sums: list[list[float]] = outcome_sums(p_match, match).tolist()
        return sums


def outcome_sums(p_match: NDArray[np.float64], match: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (15, 6) sums by bin, in the order of `serving.observe.drift.calibration.SUMS`, of (n,) outcomes."""
    variance = p_match * (1 - p_match)
    error = (match - p_match) ** 2
    terms = (np.ones_like(p_match), p_match, match, variance, error, variance * (1 - 2 * p_match) ** 2)
    codes = np.searchsorted(CUTS, p_match, side="right")
    by_sum = [np.bincount(codes, term, len(CUTS) + 1) for _, term in zip(SUMS, terms, strict=True)]
    return np.stack(by_sum, axis=1)
