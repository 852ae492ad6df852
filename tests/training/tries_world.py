"""A world of tried traffic whose truth is known: what trying, accepting and escalating would have come to, row by row.

The second look sees the luck of the weak answer, the first does not. A log of it is what a server with exploration and
callers that check would have written; discarded answers are judged less often than those that were shown, or never.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from turnout.training.arrays import Bools, Floats
from turnout.training.offpolicy.answers import STRONG, WEAK
from turnout.training.offpolicy.observed import Verdicts
from turnout.training.offpolicy.replay import Candidate
from turnout.training.offpolicy.rows import LoggedRows
from turnout.training.offpolicy.rungs import asked_propensity
from turnout.training.offpolicy.tries import LoggedTries

LOGGED = (0.5, 0.97, 0.7)
"""t_strong, t_weak and t_accept of the policy of the day."""

Thresholds = tuple[float, float, float]
SecondLook = Callable[[Floats], Floats]
"""From what the log's second look says of answers to what another one does."""


@dataclass(frozen=True)
class TriedWorld:
    """How traffic is explored and judged.

    Attributes:
        rate: share of sessions sent to the other tier.
        both: share of sessions of which both answers are asked for.
        scored: share of shown answers that somebody judged, and of those of pairs.
        discarded: share of discarded answers that somebody judged.
        unchecked: share of tries whose check never came.
    """

    rate: float = 0.1
    both: float = 0.1
    scored: float = 0.8
    discarded: float = 0.4
    unchecked: float = 0.05

    def log(self, n_sessions: int, seed: int) -> LoggedRows:
        """Return the log of some sessions."""
        return self._drawn(n_sessions, seed)[0]

    def truth(
        self, thresholds: Thresholds, n_sessions: int = 200_000, look: SecondLook = lambda p_checked: p_checked
    ) -> tuple[float, float]:
        """Return mean score and cost of a policy, no coin tossed; `look` is what another second look says."""
        rows, chance, p_checked, usd = self._drawn(n_sessions, seed=2_000_000_000)
        p_checked = look(p_checked)
        weak, tried = actions(rows.p_match, thresholds)
        accepts = p_checked >= thresholds[2]
        stays_weak = weak | (tried & accepts)
        score = np.where(stays_weak, chance[:, 0], chance[:, 1])
        cost = np.where(weak, usd[:, 0], np.where(tried, usd[:, 0] + np.where(accepts, 0.0, usd[:, 1]), usd[:, 1]))
        return float(score.mean()), float(cost.mean())

    def _drawn(self, n_sessions: int, seed: int) -> tuple[LoggedRows, Floats, Floats, Floats]:
        rng = np.random.default_rng(seed)
        session = np.repeat(np.arange(n_sessions), 1 + rng.poisson(0.5, n_sessions))
        n, mood = len(session), rng.normal(size=n_sessions)
        moved = rng.random(n_sessions)[session] < self.rate
        both = rng.random(n_sessions)[session] < self.both
        ease, luck = 0.5 * mood[session] + rng.normal(size=n), rng.normal(size=n)
        p_match, p_checked = expit(1.0 + ease), expit(0.8 + ease + 2.0 * luck)
        chance = expit(np.column_stack([0.2 + 1.2 * ease + 2.0 * luck, 1.2 + 0.6 * ease]))
        tokens = np.exp(rng.normal(5.5, 0.8, n))
        usd = np.column_stack([tokens + 800, 16.7 * (tokens + 800)]) * 1e-7
        chose_weak, chose_try = actions(p_match, LOGGED)
        is_weak = (chose_weak | chose_try) ^ moved
        was_tried = chose_try & ~moved
        is_checked = was_tried & (rng.random(n) >= self.unchecked)
        accepted = is_checked & (p_checked >= LOGGED[2])
        escalated = is_checked & ~accepted
        asked = np.column_stack([is_weak | both, ~is_weak | both])
        judged = rng.random((n, 2)) < self.scored
        judged[:, 0] &= ~(was_tried & ~accepted & ~both) | (rng.random(n) < self.discarded)
        score = (rng.random((n, 2)) < chance).astype(np.float64)
        propensity = np.where(moved, self.rate, 1 - self.rate)
        rows = LoggedRows(
            session=session,
            bundle=np.full(n, "tiny/1"),
            ladder=np.full(n, ""),
            taken=np.where(is_weak, WEAK, STRONG),
            chosen=np.where(chose_weak | chose_try, WEAK, STRONG),
            p_rungs=np.zeros((n, 0)),
            is_ruled=np.zeros(n, dtype=bool),
            is_unfamiliar=np.zeros(n, dtype=bool),
            p_match=p_match,
            tokens=tokens,
            asked=asked,
            propensity=asked_propensity(propensity, np.full(n, self.both), is_weak),
            propensity_of_try=np.where(is_weak, propensity, 1 - propensity),
            pair_propensity=np.full(n, self.both),
            score=np.where(asked & judged, score, np.nan),
            usd=np.where(asked, usd, np.nan),
            expected_usd=usd,
            table_row=np.arange(n),
            tries=LoggedTries(
                can_check=np.ones(n, dtype=bool),
                was_tried=was_tried,
                chose_try=chose_try,
                is_checked=is_checked,
                accepted=accepted,
                p_checked=np.where(is_checked, p_checked, np.nan),
                accept_threshold=np.full(n, LOGGED[2]),
                escalated_to=np.full(n, STRONG),
                judged_by=np.where(is_checked, "tiny/1", ""),
                score=np.where(escalated & judged[:, 1], score[:, 1], np.nan),
                usd=np.where(escalated, usd[:, 1], np.nan),
                self_check_usd=np.zeros(n),
            ),
        )
        return rows, chance, p_checked, usd


def actions(p_match: Floats, thresholds: Thresholds) -> tuple[Bools, Bools]:
    """Return (n,) which rows go weak, and which are tried."""
    weak = p_match >= thresholds[1]
    return weak, ~weak & (p_match >= thresholds[0])


def another_look(p_checked: Floats) -> Floats:
    """Return what a second look says that agrees with the log's by half, and knows nothing else of the answers."""
    noise = np.random.default_rng(int(1e6 * np.nansum(p_checked))).normal(size=len(p_checked))  # of each log its own
    return np.asarray(expit(0.4 + 0.7 * logit(p_checked) + noise))


def candidate(rows: LoggedRows, thresholds: Thresholds, look: SecondLook | None = None) -> Candidate:
    """Return a policy over three actions; of another second look than the log's, where one is given."""
    weak, tried = actions(rows.p_match, thresholds)
    p_checked = rows.tries.p_checked if look is None else look(rows.tries.p_checked)
    accepts = np.nan_to_num(p_checked, nan=-1.0) >= thresholds[2]
    is_own = np.full(len(rows), look is None)
    verdicts = Verdicts(accepts, thresholds[2], rows.tries.is_checked, is_own, rows.tries.escalated_to)
    return Candidate("target", 0.9, weak | tried, tried, verdicts)
