"""One set of rules on the requests of a log: where each would go, what the second look would say, what it would cost.

Comes in: records in their order, rules, bundles. Goes out: an `Outcome` a record. Nothing is decided here: rules,
thresholds and verdicts are those that serve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from turnout.serving.bundles.bundle import Bundle
from turnout.serving.bundles.policy import CheckedPolicy, Policy
from turnout.serving.decision.costs import ExpectedCosts, PairPrices
from turnout.serving.decision.decision import (
    Decision,
    as_stranger,
    exit_thresholds,
    is_strange,
    model_decision,
    rule_of_three,
    ruled_decision,
    settled,
    threshold_policy,
)
from turnout.serving.decision.judging import accept_threshold, look_again, self_check_usd, verdict_of
from turnout.serving.decision.routes import Action, Reason, Route, Verdict, estimated_tokens
from turnout.serving.decision.rules import Before, Facts, Rules
from turnout.serving.errors import ModelFault
from turnout.serving.router.checker import Checked
from turnout.serving.router.model import Prediction
from turnout.training.logs.records import Record
from turnout.training.logs.weak_answers import answer_of

MIN_CACHED_TOKENS = 1024
"""Shorter prompts are not cached by the vendor of the default pair."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where a request would go.

    Attributes:
        action: what the caller would be asked to do.
        verdict: on the answer of a tried request; None where nothing is tried, or the log lacks that answer.
        reason: what decided on the action.
        rule: that applied; empty for none.
        usd: expected cost of all answers; None where a price or the verdict is unknown.
    """

    action: Action
    verdict: Verdict | None
    reason: Reason
    rule: str
    usd: float | None

    @property
    def answered_by(self) -> Route | None:
        """The tier whose answer is shown; None where nobody can know."""
        if self.action is not Action.TRY:
            return self.action.route
        if self.verdict is None:
            return None
        return Route.WEAK if self.verdict is Verdict.ACCEPT else Route.STRONG


@dataclass(frozen=True, slots=True)
class _Turn:
    """Which tier answered a session's request, and its prompt, which that model may still hold."""

    route: Route
    text: str


class Looks:
    """What the bundles say of one record, each asked for once."""

    def __init__(self, record: Record, *, early_exit: bool) -> None:
        """Take the record, and whether the fast head may answer."""
        self.answer = answer_of(record)
        self._record = record
        self._early_exit = early_exit
        self._first: dict[tuple[str, float, float | None], Prediction | None] = {}
        self._second: dict[tuple[str, bool, bool], Checked | None] = {}

    def first(self, bundle: Bundle, policy: Policy, checked: CheckedPolicy | None) -> Prediction | None:
        """Return the prediction; None where the model gives no number."""
        threshold, also = exit_thresholds(policy, checked)
        key = bundle.manifest.bundle_id, threshold, also
        if key not in self._first:
            model = bundle.model
            try:
                features = model.featurize(self._record.prompt)
                self._first[key] = model.predict_between(features, threshold, also, early_exit=self._early_exit)
            except ModelFault:
                self._first[key] = None
        return self._first[key]

    def verdict(self, bundle: Bundle, policy: Policy, *, falls_back: bool, is_stranger: bool) -> Verdict | None:
        """Return what becomes of the weak answer; None where the log lacks it.

        A second look that gives no number ends at the strong model.
        """
        if self.answer is None:
            return None
        if self.answer[0].is_nothing:
            return Verdict.ESCALATE
        key = bundle.manifest.bundle_id, falls_back, is_stranger
        if key not in self._second:
            prompt = self._record.prompt
            try:
                found = look_again(bundle, prompt, *self.answer, falls_back=falls_back, is_stranger=is_stranger)
                self._second[key] = found
            except ModelFault:
                self._second[key] = None
        said = self._second[key]
        return Verdict.ESCALATE if said is None else verdict_of(said, accept_threshold(policy))


class Arm:
    """One set of rules, with the sessions as they would have gone under it."""

    def __init__(self, rules: Rules, bundles: Sequence[Bundle], *, can_check: bool) -> None:
        """Take the rules, the bundles that they name, and whether callers have answers checked."""
        self._rules = rules
        self._bundles = bundles
        self._can_check = can_check
        self._prices = {bundle.manifest.bundle_id: PairPrices.of(bundle.manifest.pair) for bundle in bundles}
        self._turns: dict[str, _Turn] = {}

    def outcome(self, record: Record, looks: Looks) -> Outcome:
        """Return where the record goes, and remember it for its session.

        Of a request whose verdict nobody knows a session remembers nothing.
        """
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
        tokens, output = estimated_tokens(record.prompt.text) + record.prompt.extra_tokens, _output_tokens(record)
        prices, images = self._prices[bundle.manifest.bundle_id], record.prompt.images
        costs = prices.expected_costs(tokens, output, _cached_tokens(record, last), facts.previous, images=images)
        policy = _policy(before, bundle)
        decision = self._decision(facts, before, bundle, policy, looks, costs)
        if decision is None:  # the server fails, and its caller uses the strong model
            found = Outcome(Action.STRONG, None, Reason.INVALID, before.rule, costs.strong_usd)
        else:
            verdict = _verdict(decision, facts, before, bundle, policy, looks)
            usd = _usd(decision, verdict, costs)
            if usd is not None and decision.is_tried and looks.answer and looks.answer[1].self_check is not None:
                answer_tokens = estimated_tokens(looks.answer[0].text) if output is None else output
                usd += self_check_usd(prices, tokens, answer_tokens, images=images) or 0.0
            found = Outcome(decision.action, verdict, decision.reason, before.rule, usd)
        if record.session_id and found.answered_by is not None:
            self._turns[record.session_id] = _Turn(found.answered_by, record.prompt.text)
        return found

    def _decision(
        self, facts: Facts, before: Before, bundle: Bundle, policy: Policy, looks: Looks, costs: ExpectedCosts
    ) -> Decision | None:
        """Return the decision; None where the model gives no number."""
        pair = bundle.manifest.pair
        if before.route is not None:
            return ruled_decision(pair, policy, before)
        checked = rule_of_three(bundle, policy, can_check=self._can_check)
        found = looks.first(bundle, policy, checked)
        if found is None:
            return None
        if is_strange(bundle, facts, before):
            found = as_stranger(found)
        chosen = model_decision(pair, policy, found, before.rule, falls_back=before.falls_back, checked=checked)
        after = self._rules.after(facts, before, chosen.route, found.p_match, costs, chosen.reason, policy=policy.name)
        return settled(chosen, pair, after)

    def _bundle(self, name: str) -> Bundle:
        named = (one for one in self._bundles if name in ("", one.manifest.name, one.manifest.bundle_id))
        return next(named)


def _verdict(
    decision: Decision, facts: Facts, before: Before, bundle: Bundle, policy: Policy, looks: Looks
) -> Verdict | None:
    if not decision.is_tried:
        return None
    is_stranger = is_strange(bundle, facts, before)
    return looks.verdict(bundle, policy, falls_back=before.falls_back, is_stranger=is_stranger)


def _usd(decision: Decision, verdict: Verdict | None, costs: ExpectedCosts) -> float | None:
    """Return what the tiers that answer are expected to cost together; None where a price or a verdict is unknown."""
    if decision.is_tried and verdict is None:
        return None
    is_second = decision.wants_both or verdict is Verdict.ESCALATE
    answering = {decision.route, decision.route.other} if is_second else {decision.route}
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
