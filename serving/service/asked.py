"""A request with all that is known of it before the model runs."""

from __future__ import annotations

import msgspec

from turnout.serving.bundles.bundle import CheckedPolicy, Policy
from turnout.serving.decision.decision import is_strange, rule_of_three, threshold_policy
from turnout.serving.decision.rules.rules import Before, Facts
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
        return rule_of_three(served.bundle, policy, can_check=self.call.can_check)

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
    )
