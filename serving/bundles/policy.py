"""Policies: business rules and the thresholds that they were solved to, over two tiers and over three actions.

Plain values, as the manifest of a bundle holds them.
"""

from __future__ import annotations

import msgspec

NEVER = 2.0
"""A threshold that no probability reaches: that action or verdict never happens."""


class CheckedPolicy(msgspec.Struct, frozen=True):
    """A business rule over three actions: the thresholds of both looks, and what was measured on the policy split.

    First look: p_match < `t_strong` goes strong; >= `t_weak` goes weak; between them the weak model is tried. What is
    unlike the training data is tried, never weak. Second look: p_match >= `t_accept` accepts, else it escalates.
    Shares are of all requests of the policy split, in [0, 1].

    Attributes:
        t_strong, t_weak, t_accept: in [0, 1], or `NEVER`.
        is_met: False when no thresholds could be shown to keep the promise; everything goes strong then.
        share_weak: share that goes weak unchecked.
        share_tried: share that the weak model answers first, to be checked.
        share_escalated: share that waits for both models.
        share_answered_weak: share whose users see the weak model's answer, checked or not.
        quality_kept: mean score over the strong model's; None without scores.
        share_worse: share that gets a worse answer than the strong model's.
        share_worse_bound: upper confidence bound of what is promised, at level `1 - delta`; None without a promise.
        delta: probability that the promise is broken; None without a promise.
        cost_ratio: expected cost, discarded answers and self-checks counted, where all strong is 1.
        t_rungs: of a ladder: what a rung between needs of its own p for what goes past the weak model, escalated or
            not; as `Policy.t_rungs`.
    """

    t_strong: float
    t_weak: float
    t_accept: float
    is_met: bool
    share_weak: float
    share_tried: float
    share_escalated: float
    share_answered_weak: float
    quality_kept: float | None
    share_worse: float
    share_worse_bound: float | None
    delta: float | None
    cost_ratio: float
    t_rungs: tuple[float, ...] | msgspec.UnsetType = msgspec.UNSET


class Policy(msgspec.Struct, frozen=True):
    """One business rule and the threshold it was solved to, on the policy split.

    Attributes:
        name: `kind=target`, such as `max_worse=0.01`.
        kind: `max_worse`, `max_worse_of_weak` (of what the weak model answers at most this share is worse),
            `min_quality`, `max_strong_share`, `max_cost_usd_per_1k` or `threshold`.
        target: what was asked for: USD of `max_cost_usd_per_1k`, else a share in [0, 1].
        threshold: prompts with `p_match` at or above it go weak; 1 sends everything to the strong model.
        is_met: False when no threshold could be shown to keep to it; everything goes strong then, but for
            `max_strong_share`, where all goes weak that is not out of distribution.
        share_weak: share of the policy split that goes weak.
        quality_kept: mean score of that routing over the mean score of the strong model; None without scores.
        share_worse: share of the policy split that gets a worse answer than the strong model's.
        share_worse_bound: upper confidence bound of `share_worse` at level `1 - delta`; None where no promise is made.
        delta: probability that the promise is broken; None where no promise is made.
        cost_usd_per_1k: mean cost of 1,000 requests of the policy split at the prices of the day; None where unknown.
        checked: the same rule over three actions, for callers that have answers checked; None where the bundle has
            no second look.
        t_rungs: of a ladder, one a rung between the weak and the strong model, the cheapest first: what the weak model
            does not get goes to the first whose own p is at or above, and to the strong model where none is. Unset for
            a pair, and left out of its manifest.
    """

    name: str
    kind: str
    target: float
    threshold: float
    is_met: bool
    share_weak: float
    quality_kept: float | None
    share_worse: float
    share_worse_bound: float | None = None
    delta: float | None = None
    cost_usd_per_1k: float | None = None
    checked: CheckedPolicy | None = None
    t_rungs: tuple[float, ...] | msgspec.UnsetType = msgspec.UNSET
