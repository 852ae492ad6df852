"""Tightening: the stricter thresholds that a promise falls back to while what comes back speaks against it.

Comes in: a bundle's manifest and one of its policies. Goes out: a ladder of thresholds, and the policy at one step.
"""

from __future__ import annotations

import msgspec

from turnout.serving.bundles.bundle import Manifest
from turnout.serving.bundles.policy import NEVER, Policy

LADDER = (1.0, 0.8, 0.6, 0.4, 0.2, 0.1, 0.0)
"""Steps, as shares of the level that is promised: the threshold solved for it, for stricter ones, and nothing weak."""

PROMISE = "max_worse"


def ladder(manifest: Manifest, policy: Policy) -> tuple[float, ...]:
    """Return the thresholds of a promise, rising from its own to `NEVER`; empty where there is nothing to keep.

    A bundle that kept no risk path has two steps, its own threshold and nothing.
    """
    if policy.kind != PROMISE or not policy.is_met:
        return ()
    if manifest.risk is None:
        return policy.threshold, NEVER
    places = [manifest.risk.place(share * policy.target) for share in LADDER[1:-1]]
    solved = [NEVER if place is None else manifest.risk.thresholds[place] for place in places]
    return (policy.threshold, *(max(policy.threshold, one) for one in solved), NEVER)


def tightened(policy: Policy, threshold: float) -> Policy:
    """Return a policy at a stricter threshold of its ladder, for two tiers; it keeps its name."""
    return msgspec.structs.replace(policy, threshold=min(threshold, 1.0), checked=None)


def measured(manifest: Manifest, policy: Policy) -> tuple[float, ...]:
    """Return the share that each step of `ladder` made worse when the bundle was made; 0 where nothing goes weak."""
    if manifest.risk is None:
        return policy.share_worse, 0.0
    places = [manifest.risk.place(share * policy.target) for share in LADDER[1:-1]]
    shares = [0.0 if place is None else manifest.risk.share_worse[place] for place in places]
    return (policy.share_worse, *shares, 0.0)
