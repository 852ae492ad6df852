"""The cap on what exploration may cost, of one worker.

Comes in: what each request that could be explored is expected to add, drawn or not. Goes out: whether it may be
explored at all. The state is the one thing about rules that is not pure; whoever serves holds it.

What is counted is the expectation, rate times difference, of **every** request that could be explored, and not the
cost of those that the draw took. So the state follows from the traffic alone and tells nothing of any draw: while
it is open, the rates are the exact probabilities; once it is closed, the model's route has probability 1. Counting
what was drawn would close it earlier after an expensive session was explored, and its later requests would carry
propensities that are no longer those of the draw that all of them share.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum

WINDOW_S = 3600


class Exploration(StrEnum):
    """Whether a request could be explored; logged with every decision.

    NONE: no rate applies to it. OPEN: the rates hold. CAPPED: the cap of the hour is reached. UNPRICED: there is a
    cap, and the price list lacks one of the models.
    """

    NONE = ""
    OPEN = "open"
    CAPPED = "capped"
    UNPRICED = "unpriced"


class ExplorationBudget:
    """Counts what exploration is expected to cost in this hour of UTC; begins anew with each, and with the worker.

    Attributes:
        counted_usd: in the hour of the last request.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """Begin with nothing counted; `clock` gives seconds since 1970."""
        self.counted_usd = 0.0
        self._clock = clock
        self._hour = 0

    def take(self, limit_usd: float, expected_usd: float | None) -> Exploration:
        """Return whether a request may be explored, and count it if so.

        Args:
            limit_usd: cap of an hour, 0 or more.
            expected_usd: what exploring it adds, in expectation over its draws; None where a price is unknown.
        """
        if expected_usd is None:
            return Exploration.UNPRICED
        hour = int(self._clock() // WINDOW_S)
        if hour != self._hour:
            self._hour, self.counted_usd = hour, 0.0
        if self.counted_usd + expected_usd > limit_usd:
            return Exploration.CAPPED
        self.counted_usd += expected_usd
        return Exploration.OPEN
