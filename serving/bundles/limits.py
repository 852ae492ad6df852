"""How far apart live traffic and baseline are, and how far chance alone takes them: counts in, `DriftReading`s out.

The population stability index (PSI) of k bins, sum of (q - p) ln(q / p), is biased upwards: without any shift its mean
is (k - 1)(1/n + 1/m) for n live rows and m of the baseline, and PSI / (1/n + 1/m) follows a chi-square
distribution with k - 1 degrees of freedom (Yurdakul 2018, Statistical properties of population stability index). So the
usual 0.1 alone would cry wolf on small windows and small baselines; it is a floor here, under the quantile of that law.

Every limit holds for independent rows. Requests that come in bursts of likes (a batch job, an eager user) are
fewer rows than they seem: the floors, far above the quantiles of full windows, leave room for that.

Plain Python: a supervisor, which puts the counts of its workers together, has no use for numpy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

P_MATCH, OUT_OF_DISTRIBUTION = "p_match", "out_of_distribution"

FALSE_ALARMS = 1e-4
"""Share of independent windows without a shift that may lie beyond a limit, for each measure."""

CHI_SQUARE = (15.14, 18.42, 21.11, 23.51, 25.74, 27.86, 29.88, 31.83, 33.72, 35.56, 37.37, 39.13, 40.87, 42.58)
"""Its quantiles at 1 - `FALSE_ALARMS` for 1 to 14 degrees of freedom; serving has no SciPy."""

NORMAL = 3.719
"""Likewise that of the normal distribution, one-sided."""

MIN_ROWS = 500
"""Fewer requests say nothing; with as many, and 4,000 in the baseline, chance takes the PSI of ten bins to 0.08."""

MIN_OUTCOMES = 300

PSI_FLOOR = 0.1
"""The usual mark of a moderate shift. On made-up traffic a shift of half a standard deviation is beyond within 600
requests (tests/serving/test_drift_simulation.py); `python -m tests.bench.drift LOG` says it of a log's tasks."""

SHARE_FLOOR = 0.05
"""Rise of the share out of distribution above the baseline's that is news."""

CALIBRATION_FLOOR, BRIER_FLOOR = 0.03, 0.01
"""Less is not worth a person's time: policies promise one answer in a hundred."""

_SMOOTHING = 0.5
"""Rows added to each bin, so that an empty one costs something finite (Jeffreys' prior)."""


@dataclass(frozen=True, slots=True)
class DriftReading:
    """One measure of a window: its value, and the limit beyond which it is no chance any more."""

    measure: str
    value: float
    limit: float

    @property
    def is_beyond(self) -> bool:
        """Whether it is."""
        return self.value > self.limit


def psi(expected: Sequence[float], found: Sequence[float]) -> float:
    """Return the PSI of k counts of the baseline and k live ones."""
    n_bins = len(expected)
    m, n = (sum(counts) + n_bins * _SMOOTHING for counts in (expected, found))
    shares = [((e + _SMOOTHING) / m, (f + _SMOOTHING) / n) for e, f in zip(expected, found, strict=True)]
    return sum((q - p) * math.log(q / p) for p, q in shares)


def psi_reading(measure: str, expected: Sequence[float], found: Sequence[float]) -> DriftReading:
    """Return the PSI of a measure with its limit."""
    spread = 1 / sum(expected) + 1 / sum(found)
    return DriftReading(measure, psi(expected, found), max(PSI_FLOOR, CHI_SQUARE[len(expected) - 2] * spread))


def share_reading(measure: str, expected: Sequence[float], found: Sequence[float]) -> DriftReading:
    """Return the live share of the second of two bins, with a limit above that of the baseline."""
    m, n = sum(expected), sum(found)
    pooled = (expected[1] + found[1] + _SMOOTHING) / (m + n + 2 * _SMOOTHING)
    chance = NORMAL * math.sqrt(pooled * (1 - pooled) * (1 / m + 1 / n))
    return DriftReading(measure, found[1] / n, expected[1] / m + max(SHARE_FLOOR, chance))
