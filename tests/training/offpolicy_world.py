"""A world of routed traffic whose truth is known: sessions whose rows are alike and share their draws.

Score of either answer is a coin whose odds depend on p_match and on the session; costs scatter about what was
expected. A log of it is what a server with exploration would have written.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from turnout.training.arrays import Bools, Floats
from turnout.training.offpolicy.answers import STRONG, WEAK
from turnout.training.offpolicy.rows import LoggedRows
from turnout.training.offpolicy.rungs import asked_propensity
from turnout.training.offpolicy.tries import LoggedTries

LOGGED_AT = 0.9
TARGET = 0.75
TRUE_COST_RATIO = 1.2
"""What answers really cost, over what was expected."""


@dataclass(frozen=True)
class World:
    """How traffic is explored and judged.

    Attributes:
        rate: share of sessions explored; above `hard_below`, `hard_rate`.
        both: share of sessions of which both answers are asked for.
        scored: share of answers that somebody judged.
    """

    rate: float = 0.1
    both: float = 0.05
    scored: float = 0.8
    hard_rate: float | None = None

    def log(self, n_sessions: int, seed: int) -> LoggedRows:
        """Return the log of some sessions."""
        return self._drawn(n_sessions, seed)[0]

    def truth(self, threshold: float, n_sessions: int = 200_000) -> tuple[float, float]:
        """Return the mean score and cost of sending p_match at or above the threshold weak: no coin is tossed."""
        rows, chance = self._drawn(n_sessions, seed=2_000_000_000)
        tier = np.where(rows.p_match >= threshold, WEAK, STRONG)
        at = np.arange(len(rows)), tier
        return float(chance[at].mean()), TRUE_COST_RATIO * float(rows.expected_usd[at].mean())

    def rate_of(self, p_match: Floats) -> Floats:
        """Return (n,) the probability of the other tier; it may depend on the request."""
        hard = self.rate if self.hard_rate is None else self.hard_rate
        return np.where(p_match < 0.8, hard, self.rate)

    def _drawn(self, n_sessions: int, seed: int) -> tuple[LoggedRows, Floats]:
        rng = np.random.default_rng(seed)
        session = np.repeat(np.arange(n_sessions), 1 + rng.poisson(1.0, n_sessions))
        mood, explores, pairs = rng.normal(size=n_sessions), rng.random(n_sessions), rng.random(n_sessions)
        n = len(session)
        ease = 0.6 * mood[session] + rng.normal(size=n)
        p_match = expit(1.5 + ease)
        luck = 0.8 * rng.normal(size=n_sessions)[session]
        chance = expit(np.column_stack([0.2 + 1.2 * ease + luck, 1.2 + 0.6 * ease + luck]))
        tokens = np.exp(rng.normal(5.5, 0.8, n))
        chose_weak = p_match >= LOGGED_AT
        rate = self.rate_of(p_match)
        moved, both = explores[session] < rate, pairs[session] < self.both
        is_weak = chose_weak ^ moved
        asked = np.column_stack([is_weak | both, ~is_weak | both])
        known = asked & (rng.random((n, 2)) < self.scored)
        expected = np.column_stack([tokens + 800, 16.7 * (tokens + 800)]) * 1e-7
        paid = expected * TRUE_COST_RATIO * rng.gamma(4.0, 0.25, (n, 2))
        rows = LoggedRows(
            session=session,
            bundle=np.full(n, "tiny/1"),
            ladder=np.full(n, ""),
            taken=np.where(is_weak, WEAK, STRONG),
            chosen=np.where(chose_weak, WEAK, STRONG),
            p_rungs=np.zeros((n, 0)),
            is_ruled=np.zeros(n, dtype=bool),
            is_unfamiliar=np.zeros(n, dtype=bool),
            p_match=p_match,
            tokens=tokens,
            asked=asked,
            propensity=asked_propensity(np.where(moved, rate, 1 - rate), np.full(n, self.both), is_weak),
            propensity_of_try=np.where(chose_weak, 1 - rate, rate),
            pair_propensity=np.full(n, self.both),
            score=np.where(known, rng.random((n, 2)) < chance, np.nan),
            usd=np.where(known, paid, np.nan),
            expected_usd=expected,
            table_row=np.arange(n),
            tries=LoggedTries.none(n),
        )
        return rows, chance


def takes_weak(rows: LoggedRows, threshold: float = TARGET) -> Bools:
    """Return (n,) where a threshold sends the rows."""
    return np.asarray(rows.p_match >= threshold)
