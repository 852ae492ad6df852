"""A request with all that is known of it before the model runs."""

from __future__ import annotations

import msgspec

from turnout.serving.bundles.policy import CheckedPolicy, Policy
from turnout.serving.decision.costs import DEFAULT_OUTPUT_TOKENS
from turnout.serving.decision.decision import is_strange, rule_of_three, threshold_policy
from turnout.serving.decision.routes import Route
from turnout.serving.decision.rules.offering import Asking, Offered
from turnout.serving.decision.rules.rules import Before, Facts, Rules
from turnout.serving.router.content import IMAGE_TOKENS
from turnout.serving.service.lineup import Served
from turnout.serving.wire.route import RouteCall


class Asked(msgspec.Struct, frozen=True, gc=False):
    """A request on its way to the model.

    Attributes:
        call: as the caller sent it.
        facts: what rules may look at.
        before: what the rules said.
        deadline_s: when the caller stops waiting, on the monotonic clock; None for never.
        decoded_ns: when it was read and the rules had spoken, on the performance counter.
    """

    call: RouteCall
    facts: Facts
    before: Before
    deadline_s: float | None
    decoded_ns: int

    @property
    def wanted_bundle(self) -> str:
        """The bundle that the caller names, else that of the rules; empty for the default."""
        return self.call.bundle or self.before.bundle

    def checked(self, served: Served, policy: Policy) -> CheckedPolicy | None:
        """Return the thresholds over three actions, where they hold for this caller; else None."""
        return rule_of_three(served.bundle, policy, can_check=True) if self.call.can_check else None

    def offered(self, served: Served, rules: Rules, prompt_tokens: int) -> Offered | None:
        """Return the rungs that may and can answer; None for all of a bundle's.

        Args:
            served: the bundle.
            rules: in force.
            prompt_tokens: estimated, images left out.
        """
        prompt, output = self.call.prompt, self.call.output_tokens
        tokens = prompt_tokens + (DEFAULT_OUTPUT_TOKENS if output is None else output)
        if prompt.images:
            tokens += IMAGE_TOKENS * prompt.images
        if tokens <= served.least_window and not rules.has_models and not self.before.allow:
            return None  # as nearly always, in half a microsecond
        return rules.limits(served.names, served.windows).offered(Asking(prompt, tokens, self.before.allow))

    def previous_place(self, served: Served) -> int | None:
        """Return the place of the rung that the session's request before went to; None for none."""
        if self.call.previous_rung:
            return served.place_of(self.call.previous_rung)
        return None if self.call.previous is None else (len(served.ladder) - 1) * (self.call.previous is Route.STRONG)

    def previous_route(self, served: Served) -> Route | None:
        """Return that place where it is an end of the ladder: weak or strong; else None."""
        if not self.call.previous_rung:
            return self.call.previous
        ends = {0: Route.WEAK, len(served.ladder) - 1: Route.STRONG}
        return next((route for place, route in ends.items() if place == self.previous_place(served)), None)

    def is_stranger(self, served: Served) -> bool:
        """Return whether it names a task or tenant of which the bundle has too few labelled rows for the rules."""
        return is_strange(served.bundle, self.facts, self.before)

    def policy(self, served: Served) -> Policy:
        """Return the policy to apply: the caller's own, else that of the rules, else the bundle's default.

        Raises:
            UnknownName: the bundle has no such policy.
            InvalidRequest: the caller's threshold is NaN or outside [0, 1].
        """
        if self.call.threshold is not None:
            return threshold_policy(self.call.threshold)
        if self.call.policy or self.before.threshold is None:
            return served.manifest.policy(self.call.policy or self.before.policy)
        return threshold_policy(self.before.threshold)


def facts_of(call: RouteCall) -> Facts:
    """Return what rules may look at in a call."""
    return Facts(
        prompt=call.prompt,
        tenant=call.tenant,
        task=call.task,
        session_id=call.session_id,
        request_id=call.request_id,
        bundle=call.bundle,
        previous=call.previous,
        previous_rung=call.previous_rung,
    )
