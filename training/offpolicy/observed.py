"""Observed: of one outcome and one candidate, what is known of each action's end and how probable it was to be.

Comes in: logged rows, an outcome of both answers (score or cost), the candidate's verdicts. Goes out: `Observed`, a
column an action (weak, strong, try), the input of the estimators.

Which answers were judged is taken as chance, but not alike for all: of an answer that was thrown away nobody sees
anything. Where none of those has a score, nothing is claimed of a candidate that would have shown some.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from turnout.training.arrays import Bools, Floats, Ints
from turnout.training.offpolicy.estimators import Sample
from turnout.training.offpolicy.outcome_model import predicted_tries
from turnout.training.offpolicy.rows import LoggedRows


def try_column(rows: LoggedRows) -> int:
    """Return the column of a try: the one behind those of the answers."""
    return rows.top + 1


@dataclass(frozen=True, slots=True)
class Measure:
    """One outcome of the rows.

    Attributes:
        observed: (n, k) of answers obtained by design; NaN where unknown.
        after: (n,) of the answer after an escalation; NaN where unknown.
        predicted: (n, k) by the outcome model.
        adds_up: whether a try counts both answers, and the self-check, as costs do; else the one that is shown.
    """

    observed: Floats
    after: Floats
    predicted: Floats
    adds_up: bool


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What a candidate makes of the answers that the log checked.

    Attributes:
        accepts: (n,) whether it accepts; anything where it read none.
        t_accept: what it accepts from; None where the verdicts are the log's own.
        is_read: (n,) whether its second look has read the answer; False where the log has none.
        is_own: (n,) whether that is the second look which gave the log's verdict: the two then differ by their
            thresholds alone. Of another one nobody knows before the answer whether it will be the stricter.
        escalates_to: (n,) column that it sends what it does not accept to.
    """

    accepts: Bools
    t_accept: float | None
    is_read: Bools
    is_own: Bools
    escalates_to: Ints

    @classmethod
    def of_the_log(cls, rows: LoggedRows, accepts: Bools, t_accept: float | None) -> Verdicts:
        """Return verdicts of the second look that the log's are by."""
        is_own = np.ones(len(rows), dtype=bool)
        return cls(accepts, t_accept, rows.tries.is_checked, is_own, rows.tries.escalated_to)


@dataclass(frozen=True, slots=True)
class Observed:
    """What is known, (n, k + 1): weak, strong, try; of a ladder each rung, try.

    Attributes:
        can_know: whether it could have been, by what stands before any draw.
        is_known: whether it is.
        chance: probability of that, above 0 where it is known.
        outcome: any number where it is not.
        predicted: by the outcome model.
    """

    can_know: Bools
    is_known: Bools
    chance: Floats
    outcome: Floats
    predicted: Floats

    def sample(self, rows: LoggedRows, column: Ints, which: Bools) -> Sample:
        """Return the sample of the actions in `column`, (n,), of some rows."""
        at = np.flatnonzero(which), column[which]
        known = self.is_known[at]
        weight = np.divide(1.0, self.chance[at], out=np.zeros(len(known)), where=known)
        return Sample(rows.session[which], weight, np.where(known, self.outcome[at], 0.0), self.predicted[at])


def observed_of(rows: LoggedRows, measure: Measure, verdicts: Verdicts, *, predicts: bool = True) -> Observed:
    """Return what is known of each action.

    Args:
        rows: of the log.
        measure: the outcome.
        verdicts: of the candidate on the answers that were checked.
        predicts: whether anybody reads what is predicted of tries.
    """
    tiers = [_tier(rows, measure, tier) for tier in range(rows.top + 1)]
    known, chance, can_know = (np.column_stack(columns) for columns in zip(*tiers, strict=True))
    outcome, predicted = measure.observed, measure.predicted
    tried = _tried(rows, measure, verdicts)
    of_tries = predicted_tries(rows, np.where(tried.is_known, tried.outcome, np.nan)) if predicts else tried.chance
    return Observed(
        np.column_stack([can_know, tried.can_know]),
        np.column_stack([known, tried.is_known]),
        np.column_stack([chance, tried.chance]),
        np.column_stack([outcome, tried.outcome]),
        np.column_stack([predicted, of_tries]),
    )


def _tier(rows: LoggedRows, measure: Measure, tier: int) -> tuple[Bools, Floats, Bools]:
    """Return (n,) whether one tier's answer is known, how probable that was, and whether it could have been."""
    asked = rows.asked[:, tier]
    is_known = asked & ~np.isnan(measure.observed[:, tier])
    is_discarded = rows.tries.ended_strong
    chance, can_know = rows.propensity[:, tier].copy(), rows.propensity[:, tier] > 0
    for group in (is_discarded, ~is_discarded):
        share = _share(is_known & group, asked & group)
        chance[group] *= 0.0 if share is None else share
    if not rows.tries.was_tried.any() or not is_known.any():
        return is_known, chance, can_know
    if tier == 0 and _share(is_known & is_discarded, asked & is_discarded) == 0.0:
        can_know &= ~rows.tries.chose_try
    return is_known, chance, can_know


@dataclass(frozen=True, slots=True)
class _Tried:
    can_know: Bools
    is_known: Bools
    chance: Floats
    outcome: Floats


def _tried(rows: LoggedRows, measure: Measure, verdicts: Verdicts) -> _Tried:
    """Return what trying would have come to: P(tried) x P(the answer that the verdict shows was obtained | tried)."""
    tries, accepts = rows.tries, verdicts.accepts & verdicts.is_read
    ends_at_top = verdicts.escalates_to == rows.top
    both = rows.asked[:, 0] & rows.asked[:, rows.top] & ends_at_top
    goes_elsewhere = verdicts.escalates_to != tries.escalated_to
    is_stricter = verdicts.is_read & ~accepts & (tries.accepted | goes_elsewhere)
    is_looser = verdicts.is_read & ~tries.accepted & accepts
    weak, strong = measure.observed[:, 0], np.where(both, measure.observed[:, rows.top], measure.after)
    shown = np.where(accepts, weak, strong)
    outcome = shown + np.where(accepts, 0.0, weak) + tries.self_check_usd if measure.adds_up else shown
    was_checked = tries.was_tried & tries.is_checked & verdicts.is_read
    is_obtained = was_checked & (~is_stricter | both)
    is_known = is_obtained & ~np.isnan(outcome)
    chance = rows.propensity_of_try * np.where(is_stricter, rows.pair_propensity, 1.0)
    can_know = tries.chose_try & (rows.propensity_of_try > 0) & _can_tell(rows, verdicts, was_checked)
    for look in (verdicts.is_own, ~verdicts.is_own):
        chance[look] *= _share(was_checked & look, tries.was_tried & look) or 0.0
    for group in (is_stricter, is_looser, ~is_stricter & accepts & ~is_looser, ~accepts & ~is_stricter):
        share = _share(is_known & group, is_obtained & group)
        chance[group] *= 0.0 if share is None else share
        if share or not (was_checked & group).any() or verdicts.t_accept is None or not is_known.any():
            continue
        if group is is_stricter:  # both answers were asked for, and nobody obtained the other one
            can_know &= verdicts.is_own & (verdicts.t_accept <= tries.accept_threshold) & ~goes_elsewhere
        elif group is is_looser:
            can_know &= verdicts.is_own & (verdicts.t_accept >= tries.accept_threshold)
    return _Tried(can_know, is_known & can_know, chance, outcome)


def _can_tell(rows: LoggedRows, verdicts: Verdicts, was_checked: Bools) -> Bools:
    """(n,) whether the answer that a verdict shows could have been obtained, whatever the verdict turns out to be.

    Beside an answer that was tried only the top's may have been wanted: what a candidate escalates to another rung
    between than the log did, or escalates where the log accepted, nobody has seen.
    """
    if verdicts.t_accept is None:
        return np.ones(len(rows), dtype=bool)
    has_pair = (rows.pair_propensity > 0) & (verdicts.escalates_to == rows.top)
    goes_as_logged = verdicts.escalates_to == rows.tries.escalated_to
    by_own = ((verdicts.t_accept <= rows.tries.accept_threshold) & goes_as_logged) | has_pair
    by_another = has_pair & bool((was_checked & ~verdicts.is_own).any())
    return np.asarray(np.where(verdicts.is_own, by_own, by_another))


def _share(part: Bools, whole: Bools) -> float | None:
    n = int(whole.sum())
    return float(part.sum() / n) if n else None
