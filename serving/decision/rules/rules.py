"""Rules as the server asks them: before the model, and again with what it said.

Comes in: `Facts` of one request. Goes out: `Before` (decided without the model, or under which policy and
bundle it decides), then `After` (the tier taken, and how probable that was). Pure: no clock, and no state but that
of the cap on exploration, which the caller holds.

    no text -> first rule that fits (route, rollout) -> length -> kinds of content -> [model] -> out of distribution
    -> session -> exploration
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import translate

import msgspec

from turnout.serving.decision.costs import ExpectedCosts
from turnout.serving.decision.routes import BYTES_PER_TOKEN, Reason, Route, estimated_tokens, utf8_bytes
from turnout.serving.decision.rules.budget import ExplorationBudget
from turnout.serving.decision.rules.climbing import Climb, Draws, climbed, stayed
from turnout.serving.decision.rules.draws import Purpose, draw
from turnout.serving.decision.rules.exploring import After, Chosen, Exploring, Rates, explored
from turnout.serving.decision.rules.offering import RungLimits
from turnout.serving.decision.rules.spec import PolicyExplorationSpec, RuleSpec, RulesSpec
from turnout.serving.router.prompt import Prompt

HELD = {
    "images": "has_images",
    "audio": "audio",
    "files": "files",
    "video": "videos",
    "unknown_content": "unknown",
    "other_output": "wants_other_output",
    "stored_content": "is_stored",
    "tools": "tools",
}
"""Keys of a rules file for what a request holds beside text, and the attribute of `Prompt` that says so."""


class Facts(msgspec.Struct, frozen=True, gc=False):
    """What rules may look at in a request.

    Attributes:
        prompt: has text, some other content or a tool; requests without any are refused earlier.
        tenant, task: as the caller named them; empty for none.
        session_id, request_id: empty for none.
        bundle: the bundle that the caller asked for; empty for none.
        previous: tier of the session's request before; None for none.
        previous_rung: the same as the name of a rung; empty for none, or where `previous` tells.
    """

    prompt: Prompt
    tenant: str = ""
    task: str = ""
    session_id: str = ""
    request_id: str = ""
    bundle: str = ""
    previous: Route | None = None
    previous_rung: str = ""

    @property
    def draw_key(self) -> str:
        """What draws go by: the session, else the request, else the content."""
        return self.session_id or self.request_id or self.prompt.text


class Before(msgspec.Struct, frozen=True, gc=False):
    """What the rules say before the model runs.

    Attributes:
        route: the tier, where the model is not asked; else None. Of a rule that names a rung, `rung` says which.
        rung: name of the rung that a rule names; empty for none.
        allow: patterns over rungs, of which alone any is offered; empty for all.
        reason: why that tier; None where the model decides.
        rule: name of the rule that fits; empty for none.
        policy: policy to apply where the caller named neither policy nor threshold; empty for the bundle's default.
        threshold: likewise, in [0, 1]; None for the policy's.
        bundle: bundle to answer from where the caller named none; empty for the default.
        exploration: the rule's own probability, in [0, 0.5], that the other tier is taken; None for that of the
            policy or the file.
        both: likewise, in [0, 1], that both answers are wanted.
        falls_back: whether a request that is out of distribution goes strong, whatever its p_match.
        least_task_rows: labelled rows below which a task that a request names is out of distribution; 0 for none.
        least_tenant_rows: likewise of a tenant.
    """

    route: Route | None = None
    reason: Reason | None = None
    rule: str = ""
    policy: str = ""
    threshold: float | None = None
    bundle: str = ""
    exploration: float | None = None
    both: float | None = None
    falls_back: bool = True
    least_task_rows: int = 0
    least_tenant_rows: int = 0
    rung: str = ""
    allow: tuple[str, ...] = ()


class _Compiled(msgspec.Struct, frozen=True):
    """A rule with its patterns compiled, and its answers made once."""

    tasks: re.Pattern[str] | None
    tenants: re.Pattern[str] | None
    rollout: float
    before: Before
    bundleless: Before

    def fits(self, facts: Facts) -> bool:
        return (self.tasks is None or self.tasks.match(facts.task) is not None) and (
            self.tenants is None or self.tenants.match(facts.tenant) is not None
        )


class Rules:
    """The rules of one file; those of no file leave everything to the model and the guards.

    Attributes:
        spec: what the file says.
        has_models: whether it says what models can't do.
        exploring: how much it explores.
    """

    def __init__(self, spec: RulesSpec | None = None) -> None:
        """Compile a checked file's content; None for no file."""
        self.spec = spec or RulesSpec()
        self._max_bytes = BYTES_PER_TOKEN * self.spec.max_estimated_tokens
        self._rules = tuple(_compiled(rule, self.spec) for rule in self.spec.rules)
        unnamed = Before(
            policy=self.spec.policy or "",
            falls_back=self.spec.out_of_distribution == "strong",
            least_task_rows=self.spec.least_task_rows or 0,
            least_tenant_rows=self.spec.least_tenant_rows or 0,
        )
        exploration = self.spec.exploration
        self._file_rates = Rates(exploration.rate, exploration.both)
        self._policy_rates = tuple(_policy_rates(one, self._file_rates) for one in exploration.policies)
        self._otherwise = _strong(unnamed, Reason.RULE) if self.spec.otherwise == "strong" else unnamed
        self._max_tokens = self.spec.max_estimated_tokens
        self.has_models = bool(self.spec.models)
        self._limits: dict[tuple[tuple[str, str], ...], RungLimits] = {}
        rates = (self._file_rates, *(found for _, found in self._policy_rates))
        others = (*(one.other for one in rates), *(one.exploration or 0.0 for one in self.spec.rules))
        self.exploring = Exploring(self.least_both, max(others))
        self._go_strong = tuple(held for key, held in HELD.items() if getattr(self.spec, key) == "strong")

    @property
    def least_both(self) -> float:
        """Smallest probability, in (0, 1], with which both answers of an explored request are wanted; 0 for none."""
        rates = (self._file_rates.both, *(rates.both for _, rates in self._policy_rates))
        return min((rate for rate in (*rates, *(rule.both for rule in self.spec.rules)) if rate), default=0.0)

    def limits(self, names: tuple[tuple[str, str], ...], windows: Sequence[float]) -> RungLimits:
        """Return what the rungs of a ladder can't do, given as `RungLimits.of` takes them; compiled once."""
        found = self._limits.get(names)
        if found is None:
            found = self._limits[names] = RungLimits.of(names, windows, self.spec.models)
        return found

    def before(self, facts: Facts) -> Before:
        """Return what holds for a request before the model is asked."""
        prompt = facts.prompt
        named = self._named(facts)
        if prompt.is_empty:  # the router reads text; whatever a rule says, there is none
            return _strong(named, Reason.RULE)
        if named.route is not None:
            return named
        if len(prompt.text) * 4 > self._max_bytes and utf8_bytes(prompt.text) > self._max_bytes:
            return _strong(named, Reason.TOO_LONG)
        if prompt.is_more_than_text and any(getattr(prompt, held) for held in self._go_strong):
            return _strong(named, Reason.RULE)
        if prompt.tokens_beside and estimated_tokens(prompt.text) + prompt.tokens_beside > self._max_tokens:
            return _strong(named, Reason.TOO_LONG)
        return named

    def after(
        self,
        facts: Facts,
        before: Before,
        route: Route,
        p_match: float,
        costs: ExpectedCosts,
        reason: Reason = Reason.MODEL,
        *,
        policy: str = "",
        budget: ExplorationBudget | None = None,
        climb: Climb | None = None,
    ) -> After:
        """Return the tier to take, given the one that `p_match` and the threshold chose.

        What is out of distribution goes strong for certain: no session moves it, and no draw, since nobody knows
        what the weak model would make of it. Both answers may be asked for: that shows it, and nobody sees it.
        Where it is tried instead (its route is weak, and its answer will be checked), no draw moves it either, but a
        session that stays strong does.

        Args:
            facts: of the request.
            before: what `before` said of it, its `route` None.
            route: the model's choice.
            p_match: the model's probability, in [0, 1].
            costs: expected of this request at both models, its caches counted.
            reason: of the model's choice, MODEL or OUT_OF_DISTRIBUTION.
            policy: name of the policy that was applied.
            budget: counts towards the cap on exploration; None where nothing is capped.
            climb: of a ladder, and where not all rungs are offered, what is known of the rungs; None for a pair.
        """
        rates = self._rates(before, policy)
        if climb is not None:
            return self._after_climb(facts, climb, reason, rates, budget)
        if rates.other == rates.both == 0.0 and facts.previous is not Route.STRONG:
            return After(route, reason, 1.0)  # as nearly always: no session to hold it, nothing to draw
        if reason is Reason.OUT_OF_DISTRIBUTION and route is Route.STRONG:
            rates = Rates(0.0, rates.both)
        elif facts.previous is Route.STRONG and self._stays_strong(costs):
            # Strong whatever the model and the draw say: nothing to explore, and never weak for a session's sake.
            reason = Reason.MODEL if route is Route.STRONG else Reason.SESSION
            route, rates = Route.STRONG, Rates(0.0, rates.both)
        elif (
            reason is Reason.OUT_OF_DISTRIBUTION
            or self._is_settled(facts)
            or (route is Route.STRONG and p_match < self.spec.exploration.min_p_match)
        ):
            rates = Rates(0.0, rates.both)
        limit = self.spec.exploration.max_usd_per_hour
        return explored(Chosen(route, reason, costs), rates, self.spec.salt, facts.draw_key, limit, budget)

    def _after_climb(
        self, facts: Facts, climb: Climb, reason: Reason, rates: Rates, budget: ExplorationBudget | None
    ) -> After:
        """Do as `after` for the rungs of a ladder: a session holds what it won't go down to, draws move the rest."""
        if climb.previous is None and rates.other == rates.both == 0.0:
            return stayed(climb.place, reason)
        chosen, spec = climb.place, self.spec
        draws = Draws(spec.salt, facts.draw_key, spec.exploration.max_usd_per_hour, budget)
        if reason is Reason.OUT_OF_DISTRIBUTION and chosen == climb.top:
            return climbed(climb, chosen, reason, (), rates, draws)
        held = climb.held(stays=spec.session.stay_strong, counts_switch=spec.session.count_switch_cost)
        if chosen in held and climb.previous is not None:
            chosen, reason = climb.previous, Reason.SESSION
        is_fixed = reason is Reason.OUT_OF_DISTRIBUTION or self._is_settled(facts)
        others = tuple(
            place
            for place in (() if is_fixed else climb.offered)
            if place != chosen and place not in held
            if place > chosen or climb.p[place] >= spec.exploration.min_p_match
        )
        return climbed(climb, chosen, reason, others, rates, draws)

    def _rates(self, before: Before, policy: str) -> Rates:
        """Return the rates of a request: the rule's own, else those of the policy, else the file's."""
        rates = self._file_rates
        if self._policy_rates:
            rates = next((found for fits, found in self._policy_rates if fits.match(policy)), rates)
        if before.exploration is None and before.both is None:
            return rates
        return Rates(
            rates.other if before.exploration is None else before.exploration,
            rates.both if before.both is None else before.both,
        )

    def _is_settled(self, facts: Facts) -> bool:
        """Whether the session's first request has fixed what may happen: the tier before it gives the draw away.

        Where sessions stay strong, one that an earlier draw sent there stays. Exploring its other requests with the
        draw that all of them share would give them propensities that are wrong given `previous`.
        """
        return self.spec.session.stay_strong and (facts.previous is not None or bool(facts.previous_rung))

    def _named(self, facts: Facts) -> Before:
        """Return what the first rule that fits says, its rollout drawn."""
        for rule in self._rules:
            if rule.fits(facts):
                if rule.rollout < 1.0 and draw(Purpose.ROLLOUT, self.spec.salt, facts.draw_key) >= rule.rollout:
                    return _strong(rule.before, Reason.ROLLOUT)
                return rule.before if _is_same_bundle(facts.bundle, rule.before.bundle) else rule.bundleless
        return self._otherwise

    def _stays_strong(self, costs: ExpectedCosts) -> bool:
        session = self.spec.session
        return session.stay_strong or (session.count_switch_cost and costs.weak_saves is False)


def _strong(before: Before, reason: Reason) -> Before:
    return msgspec.structs.replace(before, route=Route.STRONG, reason=reason, rung="")


def _is_same_bundle(wanted: str, named: str) -> bool:
    """Whether the caller's choice of a bundle leaves room for the rule's; `name` and `name/version` may agree."""
    return (
        not (wanted and named) or wanted == named or wanted.partition("/")[0] == named or named.startswith(f"{wanted}/")
    )


def _compiled(rule: RuleSpec, spec: RulesSpec) -> _Compiled:
    route = rule.route if rule.rung is None else Route.STRONG
    before = Before(
        route=route,
        rung=rule.rung or "",
        allow=rule.allow or (),
        reason=None if route is None else Reason.RULE,
        rule=rule.name,
        policy="" if rule.threshold is not None else rule.policy or spec.policy or "",
        threshold=rule.threshold,
        bundle=rule.bundle or "",
        exploration=rule.exploration,
        both=rule.both,
        falls_back=spec.out_of_distribution == "strong",
        least_task_rows=spec.least_task_rows or 0,
        least_tenant_rows=spec.least_tenant_rows or 0,
    )
    # A rule's policy is one of its own bundle's: where the caller asked for another, the file's policy holds.
    bundleless = msgspec.structs.replace(
        before, bundle="", policy="" if rule.threshold is not None else spec.policy or ""
    )
    return _Compiled(_pattern(rule.tasks), _pattern(rule.tenants), rule.rollout_percent / 100.0, before, bundleless)


def _policy_rates(one: PolicyExplorationSpec, rates: Rates) -> tuple[re.Pattern[str], Rates]:
    other = rates.other if one.rate is None else one.rate
    return re.compile(translate(one.policy)), Rates(other, rates.both if one.both is None else one.both)


def _pattern(globs: Iterable[str] | None) -> re.Pattern[str] | None:
    return None if globs is None else re.compile("|".join(translate(glob) for glob in globs))
