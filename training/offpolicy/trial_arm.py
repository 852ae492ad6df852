"""One set of rules on the requests of a log: where each would go, what the second look would say, what it would cost.

Comes in: records in their order, rules, bundles. Goes out: an `TrialRoute` a record. Nothing is decided here: rules,
thresholds and verdicts are those that serve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from turnout.serving.bundles.bundle import Bundle
from turnout.serving.bundles.policy import Policy
from turnout.serving.decision.costs import ExpectedCosts, PairPrices
from turnout.serving.decision.decision import (
    Decision,
    as_stranger,
    is_strange,
    model_decision,
    rule_of_three,
    ruled_decision,
    settled,
    threshold_policy,
)
from turnout.serving.decision.judging import self_check_usd
from turnout.serving.decision.routes import Action, Reason, Route, Verdict, estimated_tokens
from turnout.serving.decision.rules import Before, Facts, Rules
from turnout.serving.decision.rules.offering import Offered
from turnout.serving.decision.rungs import bar_of
from turnout.training.logs.records import Record
from turnout.training.offpolicy.trial_looks import TrialLooks
from turnout.training.offpolicy.trial_rungs import TrialLadder

MIN_CACHED_TOKENS = 1024
"""Shorter prompts are not cached by the vendor of the default pair."""


@dataclass(frozen=True, slots=True)
class TrialRoute:
    """Where a request would go.

    Attributes:
        action: what the caller would be asked to do.
        verdict: on the answer of a tried request; None where nothing is tried, or the log lacks that answer.
        reason: what decided on the action.
        rule: that applied; empty for none.
        usd: expected cost of all answers; None where a price or the verdict is unknown.
        place: of the rung that it goes to first, 0 for the weak model.
        escalated_to: of a try that is not accepted, the rung that it goes on to.
        names: of a ladder, its rungs, the cheapest first; empty for a pair.
    """

    action: Action
    verdict: Verdict | None
    reason: Reason
    rule: str
    usd: float | None
    place: int
    escalated_to: int
    names: tuple[str, ...] = ()

    @property
    def ends_at(self) -> int | None:
        """Place of the rung whose answer is shown; None where nobody can know."""
        if self.action is not Action.TRY:
            return self.place
        if self.verdict is None:
            return None
        return 0 if self.verdict is Verdict.ACCEPT else self.escalated_to

    @property
    def answered_by(self) -> Route | None:
        """The tier whose answer is shown, strong for all above the weak model; None where nobody can know."""
        return None if self.ends_at is None else Route.STRONG if self.ends_at else Route.WEAK

    @property
    def rung(self) -> str | None:
        """Name of the rung whose answer is shown; None for a pair, and where nobody can know."""
        return self.names[self.ends_at] if self.names and self.ends_at is not None else None


@dataclass(frozen=True, slots=True)
class _Turn:
    """Which rung answered a session's request, and its prompt, which that model may still hold."""

    place: int
    text: str


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request with all that is known of it before the model; `output` is None where the log lacks an answer."""

    facts: Facts
    before: Before
    bundle: Bundle
    policy: Policy
    ladder: TrialLadder
    prices: PairPrices
    costs: ExpectedCosts
    usd: tuple[float | None, ...]
    offered: Offered | None
    previous: int | None
    tokens: int
    output: int | None


class Arm:
    """One set of rules, with the sessions as they would have gone under it."""

    def __init__(self, rules: Rules, bundles: Sequence[Bundle], *, can_check: bool) -> None:
        """Take the rules, the bundles that they name, and whether callers have answers checked."""
        self._rules = rules
        self._bundles = bundles
        self._can_check = can_check
        self._ladders = {bundle.manifest.bundle_id: TrialLadder.of(bundle) for bundle in bundles}
        self._prices = {bundle.manifest.bundle_id: PairPrices.of(bundle.manifest.pair) for bundle in bundles}
        self._turns: dict[str, _Turn] = {}

    def outcome(self, record: Record, looks: TrialLooks) -> TrialRoute:
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
        )
        before = self._rules.before(facts)  # which looks at no session
        bundle = self._bundle(before.bundle)
        asked = self._asked(
            record, msgspec.structs.replace(facts, **self._previous(bundle, last)), before, bundle, last
        )
        decision = self._decision(asked, looks)
        names = () if asked.ladder.is_pair else tuple(asked.ladder.names)
        if decision is None:  # the server fails, and its caller uses the strong model
            top = len(asked.ladder.rungs) - 1
            found = TrialRoute(Action.STRONG, None, Reason.INVALID, before.rule, asked.usd[top], top, top, names)
        else:
            found = self._outcome(asked, decision, looks, names)
        if record.session_id and found.ends_at is not None:
            self._turns[record.session_id] = _Turn(found.ends_at, record.prompt.text)
        return found

    def _previous(self, bundle: Bundle, last: _Turn | None) -> dict[str, Any]:
        """Return what a caller says of the session's request before: the tier of a pair, the rung of a ladder."""
        ladder = self._ladders[bundle.manifest.bundle_id]
        if last is None:
            return {}
        place = min(last.place, len(ladder.rungs) - 1)  # another bundle may have answered it
        return {"previous": ladder.route_at(place), "previous_rung": "" if ladder.is_pair else ladder.names[place]}

    def _asked(self, record: Record, facts: Facts, before: Before, bundle: Bundle, last: _Turn | None) -> _Asked:
        """Return all that is known of a request before the model."""
        ladder, prices = self._ladders[bundle.manifest.bundle_id], self._prices[bundle.manifest.bundle_id]
        prompt, output = record.prompt, _output_tokens(record)
        tokens, cached = estimated_tokens(prompt.text) + prompt.extra_tokens, _cached_tokens(record, last)
        previous = None if last is None else min(last.place, len(ladder.rungs) - 1)
        costs = prices.expected_costs(tokens, output, cached, facts.previous, images=prompt.images)
        usd = ladder.usd(costs, tokens, output, cached, previous, prompt.images)
        offered = ladder.offered(self._rules, before, prompt, tokens, output)
        policy = _policy(before, bundle)
        return _Asked(facts, before, bundle, policy, ladder, prices, costs, usd, offered, previous, tokens, output)

    def _outcome(self, asked: _Asked, decision: Decision, looks: TrialLooks, names: tuple[str, ...]) -> TrialRoute:
        before, bundle, policy = asked.before, asked.bundle, asked.policy
        is_stranger = is_strange(bundle, asked.facts, before)
        verdict, above = None, len(asked.ladder.rungs) - 1
        if decision.is_tried:
            verdict = looks.verdict(bundle, policy, falls_back=before.falls_back, is_stranger=is_stranger)
        if verdict is Verdict.ESCALATE:
            above = looks.escalated_to(
                bundle, policy, asked.offered, falls_back=before.falls_back, is_stranger=is_stranger
            )
        usd = _usd(asked, decision, verdict, above)
        if usd is not None and decision.is_tried and looks.answer and looks.answer[1].self_check is not None:
            n_answer = estimated_tokens(looks.answer[0].text) if asked.output is None else asked.output
            usd += self_check_usd(asked.prices, asked.tokens, n_answer, images=asked.facts.prompt.images) or 0.0
        return TrialRoute(decision.action, verdict, decision.reason, before.rule, usd, decision.place, above, names)

    def _decision(self, asked: _Asked, looks: TrialLooks) -> Decision | None:
        """Return the decision; None where the model gives no number."""
        bundle, policy, before, ladder = asked.bundle, asked.policy, asked.before, asked.ladder.rungs
        pair = bundle.manifest.pair
        if before.route is not None:
            return ruled_decision(pair, policy, before, ladder, asked.offered)
        checked = rule_of_three(bundle, policy, can_check=self._can_check)
        found, p_rungs = looks.first(bundle, policy, checked), looks.p_rungs(bundle)
        if found is None or p_rungs is None:
            return None
        if is_strange(bundle, asked.facts, before):
            found = as_stranger(found)
        chosen = model_decision(
            pair,
            policy,
            found,
            before.rule,
            falls_back=before.falls_back,
            checked=checked,
            ladder=ladder,
            bar=bar_of(bundle, policy, p_rungs, checked),
            offered=asked.offered,
        )
        after = self._rules.after(
            asked.facts,
            before,
            chosen.route,
            found.p_match,
            asked.costs,
            chosen.reason,
            policy=policy.name,
            climb=asked.ladder.climb(chosen, asked.usd, asked.offered, asked.previous),
        )
        return settled(chosen, pair, after, ladder)

    def _bundle(self, name: str) -> Bundle:
        named = (one for one in self._bundles if name in ("", one.manifest.name, one.manifest.bundle_id))
        return next(named)


def _usd(asked: _Asked, decision: Decision, verdict: Verdict | None, above: int) -> float | None:
    """Return what all that answer are expected to cost together; None where a price or a verdict is unknown."""
    if decision.is_tried and verdict is None:
        return None
    places = {decision.place}
    if verdict is Verdict.ESCALATE:
        places.add(above)
    if decision.wants_both:
        second = asked.ladder.names.index(decision.other.name) if decision.other else 1 - decision.place
        places.add(second)
    known = [amount for place in sorted(places) if (amount := asked.usd[place]) is not None]
    return sum(known) if len(known) == len(places) else None


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
