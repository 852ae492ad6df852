"""A rules file tried on a log: what would go where, before and after, without serving anything.

Comes in: records, bundles, the rules as they are and as they would be. Goes out: `RulesTrial`, its effects by rule.

A log says nothing of earlier routes: the trial follows each session in the order of its rows, at the tiers that either
set of rules would have given it. Draws go by session id, else by the row's own id. The second answers that exploration
asks for are counted, its cap is not: that depends on how many workers serve and how fast requests come.

Where callers have answers checked, the second look is asked about the weak answers that the log holds. What would be
tried and has none there is counted, and nothing is claimed of its end.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

import msgspec

from turnout.serving.bundles.bundle import Bundle
from turnout.serving.decision.routes import Action, Route, Verdict
from turnout.serving.decision.rules import Rules
from turnout.training.logs.records import Record
from turnout.training.logs.weak_answers import answer_of
from turnout.training.offpolicy.trial_arm import Arm, TrialRoute
from turnout.training.offpolicy.trial_looks import TrialLooks

_Pair = tuple[TrialRoute, TrialRoute]


class RuleEffect(msgspec.Struct, frozen=True):
    """What the new rules do to the requests that one of them names.

    Attributes:
        rule: its name; empty for requests that none names, "all" is their total.
        requests: how many the log holds.
        changed: how many would take another action than before, or be answered by the other model.
        no_answer: how many would be tried, before or after, and have no answer of the weak model in the log. Shares
            of what the weak model answers and of what waits twice, and costs, are those of the others.
        share_weak_before, share_weak_after: share that the weak model answers, in [0, 1]; None where nobody can know.
        share_tried_before, share_tried_after: share of all requests whose weak answer is checked before it is shown.
        share_waits_twice_before, share_waits_twice_after: share that is tried and escalated; None as above.
        reasons: how many the new rules decide for each reason.
        share_rungs_before, share_rungs_after: of ladders, share that each rung answers in the end, by name, of the same
            requests as the shares of the weak model; unset for pairs.
        usd_per_1k_before, usd_per_1k_after: expected cost of 1,000 requests, discarded answers and self-checks
            counted; None where a price is unknown.
    """

    rule: str
    requests: int
    changed: int
    no_answer: int
    share_weak_before: float | None
    share_weak_after: float | None
    share_tried_before: float
    share_tried_after: float
    share_waits_twice_before: float | None
    share_waits_twice_after: float | None
    reasons: dict[str, int]
    usd_per_1k_before: float | None
    usd_per_1k_after: float | None
    share_rungs_before: dict[str, float] | msgspec.UnsetType = msgspec.UNSET
    share_rungs_after: dict[str, float] | msgspec.UnsetType = msgspec.UNSET


class RulesTrial(msgspec.Struct, frozen=True):
    """Effects in the order of the file, requests that no rule names last; `idle` rules named none.

    Attributes:
        two_looks: whether the figures are those of callers that have answers checked.
    """

    total: RuleEffect
    rules: list[RuleEffect]
    idle: list[str]
    two_looks: bool = False


def can_follow_two_looks(records: Iterable[Record], bundles: Iterable[Bundle]) -> bool:
    """Return whether a bundle has a second look and a record an answer of the weak model to show it."""
    return any(bundle.checker is not None for bundle in bundles) and any(answer_of(record) for record in records)


def try_rules(
    records: Sequence[Record],
    bundles: Sequence[Bundle],
    new: Rules,
    old: Rules,
    *,
    early_exit: bool = True,
    can_check: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> RulesTrial:
    """Return what `new` would change against `old`.

    Args:
        records: at least one.
        bundles: the first is the default; the names in both sets of rules are checked against them before.
        new: the rules as they would be.
        old: the rules as they are.
        early_exit: whether the fast head may answer.
        can_check: whether callers have answers checked; a bundle without a second look routes them as all others.
        on_progress: called with 1 after each record.
    """
    arms = [Arm(rules, bundles, can_check=can_check) for rules in (old, new)]
    pairs: list[_Pair] = []
    for record in records:
        looks = TrialLooks(record, early_exit=early_exit)
        pairs.append((arms[0].outcome(record, looks), arms[1].outcome(record, looks)))
        if on_progress:
            on_progress(1)
    by_rule: defaultdict[str, list[_Pair]] = defaultdict(list)
    for pair in pairs:
        by_rule[pair[1].rule].append(pair)
    named = [rule.name for rule in new.spec.rules]
    return RulesTrial(
        total=_effect("all", pairs),
        rules=[_effect(name, by_rule[name]) for name in [*named, ""] if name in by_rule],
        idle=[name for name in named if name not in by_rule],
        two_looks=can_check and any(bundle.checker is not None for bundle in bundles),
    )


def _effect(rule: str, pairs: Sequence[_Pair]) -> RuleEffect:
    old, new = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    known = [pair for pair in pairs if all(one.answered_by for one in pair)]
    old_known, new_known = [pair[0] for pair in known], [pair[1] for pair in known]
    return RuleEffect(
        rule=rule,
        requests=len(pairs),
        changed=sum(_is_changed(*pair) for pair in pairs),
        no_answer=len(pairs) - len(known),
        share_weak_before=_share(one.answered_by is Route.WEAK for one in old_known),
        share_weak_after=_share(one.answered_by is Route.WEAK for one in new_known),
        share_tried_before=_share(one.action is Action.TRY for one in old) or 0.0,
        share_tried_after=_share(one.action is Action.TRY for one in new) or 0.0,
        share_waits_twice_before=_share(one.verdict is Verdict.ESCALATE for one in old_known),
        share_waits_twice_after=_share(one.verdict is Verdict.ESCALATE for one in new_known),
        reasons={str(reason): count for reason, count in Counter(one.reason for one in new).most_common()},
        usd_per_1k_before=_usd_per_1k(old_known),
        usd_per_1k_after=_usd_per_1k(new_known),
        share_rungs_before=_by_rung(old_known),
        share_rungs_after=_by_rung(new_known),
    )


def _by_rung(outcomes: Sequence[TrialRoute]) -> dict[str, float] | msgspec.UnsetType:
    """Return the share of requests that each rung answers; unset where none is of a ladder."""
    names = dict.fromkeys(name for one in outcomes for name in one.names)
    if not names:
        return msgspec.UNSET
    counts = Counter(one.rung for one in outcomes)
    return {name: counts[name] / len(outcomes) for name in names}


def _is_changed(before: TrialRoute, after: TrialRoute) -> bool:
    is_same = before.action is after.action and before.answered_by is after.answered_by
    return not is_same or before.rung != after.rung


def _share(those: Iterable[bool]) -> float | None:
    found = list(those)
    return sum(found) / len(found) if found else None


def _usd_per_1k(outcomes: Iterable[TrialRoute]) -> float | None:
    usd = [one.usd for one in outcomes]
    known = [amount for amount in usd if amount is not None]
    return 1000.0 * sum(known) / len(known) if known and len(known) == len(usd) else None
