"""Tightening: the stricter thresholds that a promise falls back to while what comes back speaks against it.

Comes in: a bundle's manifest and one of its policies. Goes out: a ladder of thresholds, and the policy at one step.

A policy with a rule over three actions makes two promises, to callers that have answers checked and to others; each
has a ladder of its own. That over three actions moves what the second look has to reach: `t_strong` stays, so that at
every step the same requests are tried and it is known of each whether another step would have accepted it. From the
first step on nothing goes weak unchecked.

Of a ladder of models a step is a stricter point of its path: all thresholds move together, and none below its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from turnout.serving.bundles.manifest import Manifest
from turnout.serving.bundles.policy import NEVER, CheckedPolicy, Policy

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


def rung_steps(manifest: Manifest, policy: Policy) -> tuple[tuple[float, ...], ...]:
    """Return what the rungs between need at each step of `ladder`, rising; empty for a pair, and where it is."""
    own = policy.t_rungs
    if own is msgspec.UNSET or policy.kind != PROMISE or not policy.is_met:
        return ()
    never = (NEVER,) * len(own)
    path = manifest.risk
    if path is None or path.t_rungs is msgspec.UNSET:
        return own, never
    places = [path.place(share * policy.target) for share in LADDER[1:-1]]
    solved = [never if place is None else path.t_rungs[place] for place in places]
    return (own, *(tuple(map(max, own, one)) for one in solved), never)


def checked_ladder(solved: Sequence[Policy], policy: Policy) -> tuple[float, ...]:
    """Return the thresholds `t_accept` of a promise over three actions, as `ladder` does.

    A step has that of the loosest of the solved policies that allows no more than the step's share, `NEVER` where
    there is none.
    """
    if policy.kind != PROMISE or policy.checked is None or not policy.checked.is_met:
        return ()
    stricter = [_stricter(solved, share * policy.target) for share in LADDER[1:-1]]
    own = policy.checked.t_accept
    return (own, *(NEVER if one is None else max(own, one.t_accept) for one in stricter), NEVER)


def tightened(policy: Policy, threshold: float, t_rungs: tuple[float, ...] | None = None) -> Policy:
    """Return a policy at a stricter step of its ladder over two tiers; it keeps its name.

    Args:
        policy: as solved.
        threshold: of the step.
        t_rungs: what the rungs between need at that step; None for a pair.
    """
    strict = msgspec.structs.replace(policy, threshold=min(threshold, 1.0))
    return strict if t_rungs is None else msgspec.structs.replace(strict, t_rungs=t_rungs)


def tightened_check(policy: Policy, t_accept: float) -> Policy:
    """Return a policy at a stricter threshold of its ladder over three actions; all that would go weak is tried."""
    if policy.checked is None:
        return policy
    checked = msgspec.structs.replace(policy.checked, t_weak=NEVER, t_accept=t_accept)
    return msgspec.structs.replace(policy, checked=checked)


def measured(manifest: Manifest, policy: Policy) -> tuple[float, ...]:
    """Return the share that each step of `ladder` made worse when the bundle was made; 0 where nothing goes weak."""
    if manifest.risk is None:
        return policy.share_worse, 0.0
    places = [manifest.risk.place(share * policy.target) for share in LADDER[1:-1]]
    shares = [0.0 if place is None else manifest.risk.share_worse[place] for place in places]
    return (policy.share_worse, *shares, 0.0)


def rungs_measured(manifest: Manifest, policy: Policy) -> tuple[float, ...]:
    """Return what `measured` does, for a ladder of models: half a row at least where anything goes below the top.

    Pairs of a step are set against what was measured of it (`Tally.seen_in_force`), and no row made worse does not show
    that none can be.
    """
    n_rows = 1.0 / policy.target if manifest.risk is None else manifest.risk.n
    steps = zip(measured(manifest, policy), ladder(manifest, policy), rung_steps(manifest, policy), strict=True)
    return tuple(max(share, 0.5 / n_rows) if min(first, *between) < NEVER else share for share, first, between in steps)


def checked_measured(solved: Sequence[Policy], policy: Policy) -> tuple[float, ...]:
    """Return the share that each step of `checked_ladder` made worse when the bundle was made."""
    stricter = [_stricter(solved, share * policy.target) for share in LADDER[1:-1]]
    own = 0.0 if policy.checked is None else policy.checked.share_worse
    return (own, *(0.0 if one is None else min(own, one.share_worse) for one in stricter), 0.0)


def steps_of(manifest: Manifest, policy: Policy, *, over_three: bool) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the ladder of a promise, over two tiers or three actions, and what was measured at each of its steps."""
    if over_three:
        return checked_ladder(manifest.policies, policy), checked_measured(manifest.policies, policy)
    shares = rungs_measured if rung_steps(manifest, policy) else measured
    return ladder(manifest, policy), shares(manifest, policy)


def _stricter(solved: Sequence[Policy], level: float) -> CheckedPolicy | None:
    """Return the thresholds over three actions of the loosest promise, of all requests, that allows at most `level`."""
    found = [
        (policy.target, policy.checked)
        for policy in solved
        if policy.name == f"{PROMISE}={policy.target:g}" and policy.target <= level * (1.0 + 1e-9)
        if policy.checked is not None and policy.checked.is_met
    ]
    return max(found, key=lambda one: one[0])[1] if found else None
