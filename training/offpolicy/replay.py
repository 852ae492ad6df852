"""Replay of policies: what each would have cost and lost on the requests of a log.

Comes in: `LoggedRows`, and where each policy would have sent them. Goes out: `Replay`, an estimate a policy, beside the
log's own policy without its exploration and beside sending everything to the strong model.

A policy replaces the thresholds and nothing else: what a rule, a guard or a session decided stays as it was. Each
request is taken as it came; that another answer earlier in a conversation might have changed it is not replayed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec
import numpy as np

from turnout.training.arrays import Bools, Floats, Ints
from turnout.training.offpolicy.answers import WEAK
from turnout.training.offpolicy.estimators import Estimate, Estimates, estimates, mean, robust_terms
from turnout.training.offpolicy.observed import Measure, Observed, Verdicts, observed_of, try_column
from turnout.training.offpolicy.outcome_model import predicted_scores, predicted_usd
from turnout.training.offpolicy.rows import LoggedRows
from turnout.training.offpolicy.rungs import LADDER_SEPARATOR

AS_LOGGED = "as logged"
ALL_STRONG = "all strong"
MIN_SESSIONS = 30
"""Sessions behind the moved answers below which an interval is not to be relied on: it needs their sum to be normal."""

PER = 1000.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A policy to replay.

    Attributes:
        name: its own.
        threshold: over two tiers; None for none of one number.
        takes_weak: (n,) which rows it sends weak, tries among them.
        tries: (n,) which of them it has checked; None for none.
        verdicts: on the answers that the log checked; None without tries.
        above: of a ladder, (n,) column of the rung that it sends the other rows to; None for the top.
    """

    name: str
    threshold: float | None
    takes_weak: Bools
    tries: Bools | None = None
    verdicts: Verdicts | None = None
    above: Ints | None = None

    def column(self, rows: LoggedRows) -> Ints:
        """Return (n,) 0 for weak, the rung's place on a ladder, `rows.top` for strong, one more for a try."""
        column = np.where(self.takes_weak, WEAK, rows.top if self.above is None else self.above)
        return column if self.tries is None else np.where(self.tries, try_column(rows), column)

    def observed(self, rows: LoggedRows, measure: Measure, *, predicts: bool = True) -> Observed:
        """Return what is known of each action's end under this policy."""
        none = np.zeros(len(rows), dtype=bool)
        verdicts = Verdicts.of_the_log(rows, none, None) if self.verdicts is None else self.verdicts
        tries = self.tries is not None and bool(self.tries.any())
        return observed_of(rows, measure, verdicts, predicts=predicts and tries)


class PolicyReplay(msgspec.Struct, frozen=True):
    """What a policy would have done.

    Attributes:
        policy: its name.
        threshold: in [0, 1]; None for `AS_LOGGED`.
        share_weak: share of all rows that it sends weak, unchecked.
        share_tried: share of all rows whose weak answer it has checked.
        share_escalated: of those, by the log's verdicts; None where no such row was tried.
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
        share_rungs: of a ladder, share of all rows that it sends to each rung, tries left out; unset for a pair.
    """

    policy: str
    threshold: float | None
    share_weak: float
    share_tried: float
    share_escalated: float | None
    moved: int
    unknown: int
    rows: int
    sessions_seen: int
    effective_rows: float
    score: Estimates | None
    usd_per_1k: Estimates | None
    score_lost: Estimate | None
    usd_saved_per_1k: Estimate | None
    share_rungs: dict[str, float] | msgspec.UnsetType = msgspec.UNSET

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
        scored_rungs: of a ladder, share of the answers asked of each rung that somebody judged; unset for a pair.
    """

    rows: int
    sessions: int
    without_overlap: int
    ruled: int
    unpriced: int
    scored_weak: float | None
    scored_strong: float | None
    policies: list[PolicyReplay]
    scored_rungs: dict[str, float | None] | msgspec.UnsetType = msgspec.UNSET


def replay(rows: LoggedRows, policies: Iterable[Candidate]) -> Replay:
    """Return what each policy would have done.

    Args:
        rows: at least one, all of one ladder or of pairs.
        policies: any number; `AS_LOGGED` and `ALL_STRONG` are added.
    """
    scores = _scores(rows)
    costs = _costs(rows)
    above = np.where(rows.is_ruled, np.maximum(rows.chosen, 1), rows.top)
    reference = Candidate(ALL_STRONG, 1.0, rows.is_ruled & rows.chose_weak, above=above)
    as_given = Verdicts.of_the_log(rows, rows.tries.accepted, None)
    own = Candidate(AS_LOGGED, None, rows.chose_weak, rows.tries.chose_try, as_given, np.maximum(rows.chosen, 1))
    candidates = [own, reference, *policies]
    scored = _share_known(rows)
    return Replay(
        rows=len(rows),
        sessions=len(np.unique(rows.session)),
        without_overlap=int((~rows.has_overlap).sum()),
        ruled=int(rows.is_ruled.sum()),
        unpriced=int(np.isnan(rows.expected_usd).any(axis=1).sum()),
        scored_weak=scored[0],
        scored_strong=scored[-1],
        policies=[_replayed(rows, candidate, reference, scores, costs) for candidate in candidates],
        scored_rungs=_by_rung(rows, scored),
    )


def _by_rung(rows: LoggedRows, values: Sequence[T]) -> dict[str, T] | msgspec.UnsetType:
    """Return a value of each rung by its name; unset for a pair."""
    names = str(rows.ladder[0])
    return dict(zip(names.split(LADDER_SEPARATOR), values, strict=True)) if names else msgspec.UNSET


def _scores(rows: LoggedRows) -> Measure | None:
    if np.isnan(rows.score).all():
        return None
    return Measure(rows.score, rows.tries.score, predicted_scores(rows), adds_up=False)


def _costs(rows: LoggedRows) -> Measure | None:
    """Return real costs, of a tier whose tokens nobody reported the expected ones; None where a price is unknown."""
    if np.isnan(rows.expected_usd).any():
        return None
    is_reported = ~np.isnan(rows.usd).all(axis=0)
    observed = np.where(is_reported, rows.usd, np.where(rows.asked, rows.expected_usd, np.nan))
    expected = np.where(
        rows.tries.is_checked & ~rows.tries.accepted,
        rows.expected_usd[np.arange(len(rows)), rows.tries.escalated_to],
        np.nan,
    )
    after = expected if np.isnan(rows.tries.usd).all() else rows.tries.usd
    return Measure(observed, after, predicted_usd(rows), adds_up=True)


def _replayed(
    rows: LoggedRows, candidate: Candidate, reference: Candidate, scores: Measure | None, costs: Measure | None
) -> PolicyReplay:
    own, other = ([_of(rows, one, measure) for measure in (scores, costs)] for one in (candidate, reference))
    can_know, other_known = _can_know(rows, candidate, own), _can_know(rows, reference, other)
    column, tried = candidate.column(rows), try_column(rows)
    was = np.where(rows.tries.chose_try, tried, rows.chosen)
    moved = (column != was) | ((column == tried) & rows.tries.is_checked & _flips(rows, candidate))
    seen, chance = _seen(rows, candidate)
    seen &= moved & can_know
    weight = 1.0 / chance[seen]
    paired = can_know & other_known
    cost = _estimates(rows, column, own[1], can_know)
    saved = _above_reference(rows, (candidate, own[1]), (reference, other[1]), paired)
    return PolicyReplay(
        policy=candidate.name,
        threshold=candidate.threshold,
        share_weak=float((column == WEAK).mean()),
        share_tried=float((column == tried).mean()),
        share_escalated=_share_escalated(rows, candidate),
        moved=int(moved.sum()),
        unknown=int((~can_know).sum()),
        rows=int(can_know.sum()),
        sessions_seen=len(np.unique(rows.session[seen])),
        effective_rows=float(weight.sum() ** 2 / np.square(weight).sum()) if seen.any() else 0.0,
        score=_estimates(rows, column, own[0], can_know),
        usd_per_1k=None if cost is None else cost.times(PER),
        score_lost=_above_reference(rows, (candidate, own[0]), (reference, other[0]), paired),
        usd_saved_per_1k=None if saved is None else saved.times(PER),
        share_rungs=_by_rung(rows, [float((column == rung).mean()) for rung in range(rows.top + 1)]),
    )


def _of(rows: LoggedRows, candidate: Candidate, measure: Measure | None) -> Observed | None:
    return None if measure is None else candidate.observed(rows, measure)


def _can_know(rows: LoggedRows, candidate: Candidate, observed: Sequence[Observed | None]) -> Bools:
    """(n,) whether the end of what a policy does could have been observed, of every outcome that there is."""
    at = np.arange(len(rows)), candidate.column(rows)
    reach = np.column_stack([rows.propensity > 0, rows.tries.chose_try & (rows.propensity_of_try > 0)])[at]
    for one in observed:
        if one is not None:
            reach = reach & one.can_know[at]
    return np.asarray(reach)


def _seen(rows: LoggedRows, candidate: Candidate) -> tuple[Bools, Floats]:
    """Return (n,) whether the answer that a policy shows was obtained, and how probable that was; no outcome counts."""
    obtained = Measure(
        np.where(rows.asked, 0.0, np.nan), np.zeros(len(rows)), np.zeros_like(rows.propensity), adds_up=False
    )
    observed, at = candidate.observed(rows, obtained, predicts=False), (np.arange(len(rows)), candidate.column(rows))
    return observed.is_known[at], observed.chance[at]


def _flips(rows: LoggedRows, candidate: Candidate) -> Bools:
    """(n,) whether a policy's verdict is another one than the log's."""
    if candidate.verdicts is None:
        return rows.tries.accepted
    verdicts, accepted = candidate.verdicts, rows.tries.accepted
    goes_elsewhere = ~verdicts.accepts & ~accepted & (verdicts.escalates_to != rows.tries.escalated_to)
    return np.asarray(verdicts.is_read & ((verdicts.accepts != accepted) | goes_elsewhere))


def _share_escalated(rows: LoggedRows, candidate: Candidate) -> float | None:
    if candidate.verdicts is None:
        return None
    shown = (
        (candidate.column(rows) == try_column(rows))
        & rows.tries.was_tried
        & rows.tries.is_checked
        & candidate.verdicts.is_read
    )
    if not shown.any():
        return None
    weight = 1.0 / rows.propensity_of_try[shown]
    return float(np.average(~candidate.verdicts.accepts[shown], weights=weight))


def _estimates(rows: LoggedRows, column: Ints, observed: Observed | None, which: Bools) -> Estimates | None:
    if observed is None or not which.any():
        return None
    found = estimates(observed.sample(rows, column, which))
    return None if found.dr is None else found


def _above_reference(
    rows: LoggedRows, one: tuple[Candidate, Observed | None], reference: tuple[Candidate, Observed | None], which: Bools
) -> Estimate | None:
    """Return how far the reference is above the candidate, row by row; None where either was never observed."""
    if one[1] is None or reference[1] is None or not which.any():
        return None
    own, other = (
        one[1].sample(rows, one[0].column(rows), which),
        reference[1].sample(rows, reference[0].column(rows), which),
    )
    if not (own.weight.any() and other.weight.any()):
        return None
    return mean(robust_terms(other) - robust_terms(own), own.session)


def _share_known(rows: LoggedRows) -> list[float | None]:
    asked = rows.asked.sum(axis=0)
    known = (~np.isnan(rows.score)).sum(axis=0)
    return [float(known[tier] / asked[tier]) if asked[tier] else None for tier in range(rows.top + 1)]
