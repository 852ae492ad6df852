"""A rules file tried on a log: what would go where, before and after, without serving anything.

Comes in: records, bundles, the rules as they are and as they would be. Goes out: `RulesTrial`, its effects by rule.

A log says nothing of earlier routes: the trial follows each session in the order of its rows, at the tiers that either
set of rules would have given it. Draws go by session id, else by the row's own id. The second answers that exploration
asks for are counted, its cap is not: that depends on how many workers serve and how fast requests come.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import msgspec

from turnout.serving.bundles.bundle import Bundle, Policy
from turnout.serving.decision.costs import ExpectedCosts, PairPrices
from turnout.serving.decision.decision import as_stranger, is_strange, model_decision, threshold_policy
from turnout.serving.decision.routes import Reason, Route, estimated_tokens
from turnout.serving.decision.rules import Before, Facts, Rules
from turnout.serving.errors import ModelFault
from turnout.serving.router.model import Prediction
from turnout.training.logs.records import Record

MIN_CACHED_TOKENS = 1024
"""Shorter prompts are not cached by the vendor of the default pair."""


class RuleEffect(msgspec.Struct, frozen=True):
    """What the new rules do to the requests that one of them names.

    Attributes:
        rule: its name; empty for requests that none names, "all" is their total.
        requests: how many the log holds.
        changed: how many would go to the other tier than before.
        share_weak_before, share_weak_after: share that goes weak, in [0, 1].
        reasons: how many the new rules decide for each reason.
        usd_per_1k_before, usd_per_1k_after: expected cost of 1,000 requests; None where a price is unknown.
    """

    rule: str
    requests: int
    changed: int
    share_weak_before: float
    share_weak_after: float
    reasons: dict[str, int]
    usd_per_1k_before: float | None
    usd_per_1k_after: float | None


class RulesTrial(msgspec.Struct, frozen=True):
    """Effects in the order of the file, requests that no rule names last; `idle` rules named none."""

    total: RuleEffect
    rules: list[RuleEffect]
    idle: list[str]


@dataclass(frozen=True, slots=True)
class _Outcome:
    route: Route
    reason: Reason
    rule: str
    usd: float | None


@dataclass(frozen=True, slots=True)
class _Turn:
    """Where a session's request went, and its prompt, which that model may still hold."""

    route: Route
    text: str


def try_rules(
    records: Sequence[Record],
    bundles: Sequence[Bundle],
    new: Rules,
    old: Rules,
    *,
    early_exit: bool = True,
    on_progress: Callable[[int], None] | None = None,
) -> RulesTrial:
    """Return what `new` would change against `old`.

    Args:
        records: at least one.
        bundles: the first is the default; the names in both sets of rules are checked against them before.
        new: the rules as they would be.
        old: the rules as they are.
        early_exit: whether the fast head may answer.
        on_progress: called with 1 after each record.
    """
    arms = _Arm(old, bundles), _Arm(new, bundles)
    pairs: list[tuple[_Outcome, _Outcome]] = []
    for record in records:
        predictions = _Predictions(record, early_exit=early_exit)
        pairs.append((arms[0].outcome(record, predictions), arms[1].outcome(record, predictions)))
        if on_progress:
            on_progress(1)
    by_rule: defaultdict[str, list[tuple[_Outcome, _Outcome]]] = defaultdict(list)
    for pair in pairs:
        by_rule[pair[1].rule].append(pair)
    named = [rule.name for rule in new.spec.rules]
    return RulesTrial(
        total=_effect("all", pairs),
        rules=[_effect(name, by_rule[name]) for name in [*named, ""] if name in by_rule],
        idle=[name for name in named if name not in by_rule],
    )


class _Predictions:
    """The model's answers to one record, each asked for once."""

    def __init__(self, record: Record, *, early_exit: bool) -> None:
        self._record = record
        self._early_exit = early_exit
        self._known: dict[tuple[str, float], Prediction | None] = {}

    def at(self, bundle: Bundle, threshold: float) -> Prediction | None:
        """Return the prediction; None where the model gives no number."""
        key = bundle.manifest.bundle_id, threshold
        if key not in self._known:
            try:
                found = bundle.model.predict(self._record.prompt, threshold, early_exit=self._early_exit)
                self._known[key] = found
            except ModelFault:
                self._known[key] = None
        return self._known[key]


class _Arm:
    """One set of rules, with the sessions as they would have gone under it."""

    def __init__(self, rules: Rules, bundles: Sequence[Bundle]) -> None:
        self._rules = rules
        self._bundles = bundles
        self._prices = {bundle.manifest.bundle_id: PairPrices.of(bundle.manifest.pair) for bundle in bundles}
        self._turns: dict[str, _Turn] = {}

    def outcome(self, record: Record, predictions: _Predictions) -> _Outcome:
        """Return where the record goes, and remember it for its session."""
        last = self._turns.get(record.session_id) if record.session_id else None
        facts = Facts(
            record.prompt,
            tenant=record.tenant or "",
            task=record.task or "",
            session_id=record.session_id or "",
            request_id=record.id,
            previous=None if last is None else last.route,
        )
        before = self._rules.before(facts)
        bundle = self._bundle(before.bundle)
        costs = self._prices[bundle.manifest.bundle_id].expected_costs(
            estimated_tokens(record.prompt.text), _output_tokens(record), _cached_tokens(record, last), facts.previous
        )
        wants_both = False
        if before.route is not None and before.reason is not None:
            route, reason = before.route, before.reason
        elif (found := predictions.at(bundle, (policy := _policy(before, bundle)).threshold)) is None:
            route, reason = Route.STRONG, Reason.INVALID  # the server fails, and its caller uses the strong model
        else:
            if is_strange(bundle, facts, before):
                found = as_stranger(found)
            chosen = model_decision(bundle.manifest.pair, policy, found, falls_back=before.falls_back)
            after = self._rules.after(
                facts, before, chosen.route, found.p_match, costs, chosen.reason, policy=policy.name
            )
            route, reason, wants_both = after.route, after.reason, after.wants_both
        if record.session_id:
            self._turns[record.session_id] = _Turn(route, record.prompt.text)
        answering = {route, route.other} if wants_both else {route}
        return _Outcome(route, reason, before.rule, _usd(costs, answering))

    def _bundle(self, name: str) -> Bundle:
        named = (one for one in self._bundles if name in ("", one.manifest.name, one.manifest.bundle_id))
        return next(named)


def _usd(costs: ExpectedCosts, answering: Collection[Route]) -> float | None:
    """Return what the tiers that answer are expected to cost together; None where a price is unknown."""
    usd = [costs.weak_usd if route is Route.WEAK else costs.strong_usd for route in answering]
    known = [amount for amount in usd if amount is not None]
    return sum(known) if len(known) == len(usd) else None


def _policy(before: Before, bundle: Bundle) -> Policy:
    if before.threshold is not None:
        return threshold_policy(before.threshold)
    return bundle.manifest.policy(before.policy)


def _output_tokens(record: Record) -> int | None:
    """Return the logged length of an answer; None when there is none."""
    counts = [answer.completion_tokens for answer in (record.strong, record.weak) if answer is not None]
    return next((count for count in counts if count is not None and count >= 0), None)


def _cached_tokens(record: Record, last: _Turn | None) -> int:
    """Return the tokens of the session's last prompt where this one goes on from it, as far as they are cached."""
    if last is None or last.text not in record.prompt.text:
        return 0
    n_tokens = estimated_tokens(last.text)
    return n_tokens if n_tokens >= MIN_CACHED_TOKENS else 0


def _effect(rule: str, pairs: Sequence[tuple[_Outcome, _Outcome]]) -> RuleEffect:
    old, new = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    return RuleEffect(
        rule=rule,
        requests=len(pairs),
        changed=sum(before.route is not after.route for before, after in pairs),
        share_weak_before=_share_weak(old),
        share_weak_after=_share_weak(new),
        reasons={str(reason): count for reason, count in Counter(one.reason for one in new).most_common()},
        usd_per_1k_before=_usd_per_1k(old),
        usd_per_1k_after=_usd_per_1k(new),
    )


def _share_weak(outcomes: Sequence[_Outcome]) -> float:
    return sum(one.route is Route.WEAK for one in outcomes) / len(outcomes)


def _usd_per_1k(outcomes: Iterable[_Outcome]) -> float | None:
    usd = [one.usd for one in outcomes]
    known = [amount for amount in usd if amount is not None]
    return 1000.0 * sum(known) / len(known) if len(known) == len(usd) else None
