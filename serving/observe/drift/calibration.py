"""Calibration of live answers: sums over pairs of `p_match` and what came true in, `DriftReading`s out.

Sums add up over workers. The calibration error is the mean absolute difference of match rate and mean `p_match` over
the buckets of `turnout_p_match_ratio`. Its limit, and that of the Brier score, come from what a calibrated router
would show on these very `p_match` (sums of half-normals; Spiegelhalter 1986 for the Brier score), so that a
selection by `p_match` of what gets judged moves neither.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from turnout.serving.bundles.limits import BRIER_FLOOR, CALIBRATION_FLOOR, MIN_OUTCOMES, DriftReading

CALIBRATION_ERROR, BRIER = "calibration_error", "brier"

SURE_SDS = 5.0
"""Standard deviations beyond what chance gives on average. Few misses among many matches are skewed: at 3.7, which the
normal law asks for, up to 4 in 1,000 windows of 300 calibrated outcomes were beyond (20,000 windows of p_match around
0.99); at 5, 1 of 12,000."""

CUTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.975)
"""Inner bounds of the buckets of `turnout_p_match_ratio`: finer where the thresholds of cautious policies lie."""

SUMS = ("n", "p_match", "match", "variance", "squared_error", "error_variance")
"""What is summed over outcomes: their number, p, match, p(1 - p), (match - p)^2 and p(1 - p)(1 - 2p)^2."""


def calibration_readings(sums: Sequence[Sequence[float]]) -> list[DriftReading]:
    """Return calibration error and Brier score of sums by bin; nothing from fewer than `MIN_OUTCOMES`.

    Args:
        sums: for each bin, those of `SUMS` in that order.
    """
    totals = [sum(column) for column in zip(*sums, strict=True)]
    n, _, _, variance, squared_error, error_variance = totals
    if n < MIN_OUTCOMES:
        return []
    error = sum(abs(match - p_match) for _, p_match, match, *_ in sums)
    chance = sum(math.sqrt(2 * one[3] / math.pi) for one in sums)
    chance += SURE_SDS * math.sqrt((1 - 2 / math.pi) * variance)
    chance_of_brier = SURE_SDS * math.sqrt(error_variance)
    return [
        DriftReading(CALIBRATION_ERROR, error / n, max(CALIBRATION_FLOOR, chance / n)),
        DriftReading(BRIER, squared_error / n, variance / n + max(BRIER_FLOOR, chance_of_brier / n)),
    ]


def match_from(preference: str, scores: Mapping[str, float], margin: float) -> int | None:
    """Return whether the weak model was not worse, where an outcome or two of a request say so; else None.

    Args:
        preference: `weak`, `strong` or `tie`; empty for none.
        scores: by tier, `weak` and `strong`.
        margin: by how much the weak score may fall below the strong one and still match.
    """
    if preference:
        return int(preference != "strong")
    if {"weak", "strong"} <= scores.keys():
        return int(scores["weak"] >= scores["strong"] - margin)
    return None
