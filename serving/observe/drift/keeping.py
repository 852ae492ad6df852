"""Keeping a promise over a month: which step of the ladder of thresholds the rest of it is to be served at.

Comes in: what a promise allows, what was seen of the month and of its last days. Goes out: the lowest step at which
the month ends within what is promised, as far as one can tell. What was spent so far counts with the rest, so that
what a drift cost before it was noticed is made good. Both get an allowance for chance. How often that fails, and what
it costs: docs/decisions/serving/0005 and `python -m tests.bench.live_promises`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

PRIOR_EVENTS = 2.0
"""Weight of what training measured at each step, in requests made worse: 40 pairs at a level of 0.05, 200 at 0.01."""

SPENT_ERRORS = 1.5
"""Standard errors that are added to what was seen of the month, as the pairs are a sample of it. In 200 months of 1,000
pairs in which the weak model got worse on a tenth, 10 to 12 % broke the promise at 1 and 2 % at 2, for 3 points of
the share that goes weak."""

AHEAD_ERRORS = 1.0
"""Standard errors that are added to what is to be expected of a step."""


@dataclass(frozen=True, slots=True)
class SeenPairs:
    """Pairs of some days, weighted so that their mean weight is 1.

    Attributes:
        n: how many.
        worse: weight of those made worse; by step of the ladder, or one number for the thresholds that were in force.
        squares: the same of squared weights.
    """

    n: float
    worse: Sequence[float]
    squares: Sequence[float]


def step_to_keep(level: float, expected: Sequence[float], month: SeenPairs, recent: SeenPairs, left: float) -> int:
    """Return the step of the ladder to serve at.

    Args:
        level: share that may be made worse.
        expected: by step, what training measured; 0 at the last, where nothing goes weak.
        month: of the thresholds that were in force (one number).
        recent: of the last days, by step.
        left: requests still to come in the month over those that came, 0 or more.
    """
    spent = month.worse[0] + SPENT_ERRORS * math.sqrt(month.squares[0] + 1.0)
    ahead = month.n * left
    prior = PRIOR_EVENTS / level
    for step, (measured, worse, squares) in enumerate(zip(expected, recent.worse, recent.squares, strict=True)):
        likely = prior * measured + worse
        error = AHEAD_ERRORS * math.sqrt(prior * measured + squares)
        share = (likely + error) / (prior + recent.n)
        if spent + ahead * share <= level * (month.n + ahead):
            return step
    return len(expected) - 1
