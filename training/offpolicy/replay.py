"""Replay of policies: what each would have cost and lost on the requests of a log.

Comes in: `LoggedRows`, and where each policy would have sent them. Goes out: `Replay`, an estimate a policy, beside the
log's own policy without its exploration and beside sending everything to the strong model.

A policy replaces the threshold and nothing else: what a rule, a guard or a session decided stays as it was. Each
request is taken as it came; that another answer earlier in a conversation might have changed it is not replayed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec
import numpy as np

from turnout.training.arrays import Bools, Floats
from turnout.training.offpolicy.estimators import Estimate, Estimates, Sample, estimates, mean, robust_terms, sample
from turnout.training.offpolicy.outcome_model import predicted_scores, predicted_usd
from turnout.training.offpolicy.rows import LoggedRows

AS_LOGGED = "as logged"
ALL_STRONG = "all strong"
MIN_SESSIONS = 30
"""Sessions behind the moved answers below which an interval is not to be relied on: it needs their sum to be normal."""

PER = 1000.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A policy to replay: its name, its threshold (None for none of one number), and (n,) where it sends the rows."""

    name: str
    threshold: float | None
    takes_weak: Bools


class PolicyReplay(msgspec.Struct, frozen=True):
    """What a policy would have done.

    Attributes:
        policy: its name.
        threshold: in [0, 1]; None for `AS_LOGGED`.
        share_weak: share of all rows that it sends weak.
        moved: rows that it sends elsewhere than the log's policy did.
        unknown: rows of those whose answer could not have been asked for: nothing is estimated on them.
        rows: all others, which the figures are of.
        sessions_seen: sessions in which an answer to a moved row was observed.
        effective_rows: rows of equal weight that would say as much, of the moved.
        score: mean score of the answers; None where nobody judged any.
        usd_per_1k: mean cost of 1,000 requests; None without prices.
        score_lost: by how much the score is below that of sending everything strong, doubly robust and paired; None
            where the log does not say.
        usd_saved_per_1k: likewise what it saves.
    """

    policy: str
    threshold: float | None
    share_weak: float
    moved: int
    unknown: int
    rows: int
    sessions_seen: int
    effective_rows: float
    score: Estimates | None
    usd_per_1k: Estimates | None
    score_lost: Estimate | None
    usd_saved_per_1k: Estimate | None

    @property
    def is_thin(self) -> bool:
        """Whether too few sessions say anything of what the policy moves."""
        return self.moved > self.unknown and self.sessions_seen < MIN_SESSIONS


class Replay(msgspec.Struct, frozen=True):
    """All policies on one log.

    Attributes:
        rows, sessions: of the log, requests outside a rollout left out.
        without_overlap: rows with route propensity 1 and no chance of both answers: they say nothing of the other tier.
        ruled: rows that a rule, guard or session decided, whatever the policy.
        unpriced: rows without an expected cost; with one of them no cost is estimated.
        scored_weak, scored_strong: share of the answers asked of either tier that somebody judged.
        policies: `AS_LOGGED` and `ALL_STRONG` first.
    """

    rows: int
    sessions: int
    without_overlap: int
    ruled: int
    unpriced: int
    scored_weak: float | None
    scored_strong: float | None
    policies: list[PolicyReplay]


@dataclass(frozen=True, slots=True)
class _Measure:
    """One outcome of the rows: (n, 2) as observed, and as predicted."""

    observed: Floats
    predicted: Floats

    def sample(self, rows: LoggedRows, takes_weak: Bools, which: Bools) -> Sample:
        return sample(
            rows.session[which],
            self.observed[which],
            rows.asked[which],
            rows.propensity[which],
            takes_weak[which],
            self.predicted[which],
        )


def replay(rows: LoggedRows, policies: Iterable[Candidate]) -> Replay:
    """Return what each policy would have done.

    Args:
        rows: at least one.
        policies: any number; `AS_LOGGED` and `ALL_STRONG` are added.
    """
    scores = _scores(rows)
    costs = _costs(rows)
    reference = Candidate(ALL_STRONG, 1.0, rows.is_ruled & rows.chose_weak)
    candidates = [Candidate(AS_LOGGED, None, rows.chose_weak), reference, *policies]
    scored = _share_known(rows)
    return Replay(
        rows=len(rows),
        sessions=len(np.unique(rows.session)),
        without_overlap=int((~rows.has_overlap).sum()),
        ruled=int(rows.is_ruled.sum()),
        unpriced=int(np.isnan(rows.expected_usd).any(axis=1).sum()),
        scored_weak=scored[0],
        scored_strong=scored[1],
        policies=[_replayed(rows, candidate, reference, scores, costs) for candidate in candidates],
    )


def _scores(rows: LoggedRows) -> _Measure | None:
    return None if np.isnan(rows.score).all() else _Measure(rows.score, predicted_scores(rows))


def _costs(rows: LoggedRows) -> _Measure | None:
    """Return real costs, of a tier whose tokens nobody reported the expected ones; None where a price is unknown."""
    if np.isnan(rows.expected_usd).any():
        return None
    is_reported = ~np.isnan(rows.usd).all(axis=0)
    observed = np.where(is_reported, rows.usd, np.where(rows.asked, rows.expected_usd, np.nan))
    return _Measure(observed, predicted_usd(rows))


def _replayed(
    rows: LoggedRows, candidate: Candidate, reference: Candidate, scores: _Measure | None, costs: _Measure | None
) -> PolicyReplay:
    can_know = _can_know(rows, candidate.takes_weak)
    moved = candidate.takes_weak != rows.chose_weak
    seen = moved & can_know & rows.asked[np.arange(len(rows)), np.where(candidate.takes_weak, 0, 1)]
    weight = 1.0 / rows.propensity[seen, np.where(candidate.takes_weak, 0, 1)[seen]]
    paired = can_know & _can_know(rows, reference.takes_weak)
    cost = _estimates(rows, candidate, costs, can_know)
    saved = _above_reference(rows, candidate, reference, costs, paired)
    return PolicyReplay(
        policy=candidate.name,
        threshold=candidate.threshold,
        share_weak=float(candidate.takes_weak.mean()),
        moved=int(moved.sum()),
        unknown=int((~can_know).sum()),
        rows=int(can_know.sum()),
        sessions_seen=len(np.unique(rows.session[seen])),
        effective_rows=float(weight.sum() ** 2 / np.square(weight).sum()) if seen.any() else 0.0,
        score=_estimates(rows, candidate, scores, can_know),
        usd_per_1k=None if cost is None else cost.times(PER),
        score_lost=_above_reference(rows, candidate, reference, scores, paired),
        usd_saved_per_1k=None if saved is None else saved.times(PER),
    )


def _can_know(rows: LoggedRows, takes_weak: Bools) -> Bools:
    """(n,) whether the answer that a policy asks for could have been observed."""
    return np.asarray(rows.propensity[np.arange(len(rows)), np.where(takes_weak, 0, 1)] > 0)


def _estimates(rows: LoggedRows, candidate: Candidate, measure: _Measure | None, which: Bools) -> Estimates | None:
    if measure is None or not which.any():
        return None
    found = estimates(measure.sample(rows, candidate.takes_weak, which))
    return None if found.dr is None else found


def _above_reference(
    rows: LoggedRows, candidate: Candidate, reference: Candidate, measure: _Measure | None, which: Bools
) -> Estimate | None:
    """Return how far the reference is above the candidate, row by row; None where either was never observed."""
    if measure is None or not which.any():
        return None
    own, other = (measure.sample(rows, one.takes_weak, which) for one in (candidate, reference))
    if not (own.weight.any() and other.weight.any()):
        return None
    return mean(robust_terms(other) - robust_terms(own), own.session)


def _share_known(rows: LoggedRows) -> list[float | None]:
    asked = rows.asked.sum(axis=0)
    known = (~np.isnan(rows.score)).sum(axis=0)
    return [float(known[tier] / asked[tier]) if asked[tier] else None for tier in (0, 1)]
