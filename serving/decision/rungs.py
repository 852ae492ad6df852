"""Which rung of a ladder a request goes to: the one rule for first looks, escalations, rules and strangers.

Comes in: whether the first rung gets it, p of the rungs between with what each needs, and which rungs may and can.
Goes out: the place of a rung, 0 for the cheapest, and what moved it there. A pair is the ladder of two.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import msgspec

from turnout.serving.bundles.bundle import Bundle
from turnout.serving.bundles.ladder import Rung, rung_of
from turnout.serving.bundles.manifest import Pair
from turnout.serving.bundles.policy import NEVER, CheckedPolicy, Policy
from turnout.serving.decision.routes import Reason, Route
from turnout.serving.decision.rules.offering import Offered
from turnout.serving.decision.rules.rules import Before
from turnout.serving.router.native.agreement import PARITY
from turnout.serving.router.prompt import Prompt


class Bar(msgspec.Struct, frozen=True, gc=False):
    """What decides over the rungs between.

    Attributes:
        p_rungs: of each, P(it is not worse than the top); empty for a pair, and where the model did not run.
        t_rungs: what each needs; as many.
    """

    p_rungs: tuple[float, ...] = ()
    t_rungs: tuple[float, ...] = ()


class RungLook(msgspec.Struct, frozen=True, gc=False):
    """What decided on one rung.

    Attributes:
        rung: which.
        p: P(it is not worse than the top); None for the top, and where the model did not run.
        threshold: what p has to reach; None likewise.
        usd: expected cost; None where unknown.
        is_offered: whether it may and can answer.
    """

    rung: Rung
    p: float | None
    threshold: float | None
    usd: float | None
    is_offered: bool


def rung_looks(
    ladder: Sequence[Rung],
    p: Sequence[float],
    thresholds: Sequence[float],
    usd: Sequence[float | None],
    offered: Offered | None = None,
) -> list[RungLook]:
    """Return what decided on each rung; `p` and `thresholds` are of those below the top, empty without a model."""
    return [
        RungLook(
            rung,
            p[place] if place < len(p) else None,
            thresholds[place] if place < len(thresholds) else None,
            usd[place],
            offered is None or place in offered.places,
        )
        for place, rung in enumerate(ladder)
    ]


@lru_cache(maxsize=64)
def rungs_of_pair(pair: Pair) -> tuple[Rung, Rung]:
    """Return a pair as a ladder."""
    return rung_of(pair.weak), rung_of(pair.strong)


def rung_for(
    ladder: Sequence[Rung], bar: Bar, *, goes_first: bool, is_unlike: bool = False, offered: Offered | None = None
) -> tuple[int, Reason | None]:
    """Return the place of the cheapest rung that the policy allows, and why it is another than the policy alone says.

    The first where `goes_first`, else the first rung between whose p is at or above what it needs, else the top. Of
    what is not offered the next that is allowed takes the place. Where none is, so that the top is not offered, the
    highest that is offered answers: nearest to the top's quality. The top where nothing is offered at all: whoever
    asked learns from it what is wrong.

    Args:
        ladder: the rungs, the cheapest first.
        bar: over the rungs between.
        goes_first: whether the first rung gets the request.
        is_unlike: whether the request is out of distribution: no p of a rung between counts.
        offered: the rungs that may and can; None for all.
    """
    top = len(ladder) - 1
    if offered is None and (goes_first or is_unlike or not bar.p_rungs):
        return (0 if goes_first else top), None
    allowed = [0] if goes_first else []
    if not is_unlike:
        allowed += [place for place, p in enumerate(bar.p_rungs, 1) if p >= bar.t_rungs[place - 1]]
    wanted = allowed[0] if allowed else top
    if offered is None or wanted in offered.places:
        return wanted, None
    possible = [place for place in (*allowed, top) if place in offered.places] or offered.places[-1:] or [top]
    return possible[0], offered.refused.get(wanted)


def ruled_place(ladder: Sequence[Rung], before: Before, offered: Offered | None = None) -> tuple[int, Reason | None]:
    """Return the place of the rung that a rule or a guard names, and why it is another than that.

    Where that rung is not offered, the nearest above it answers that is, else the nearest below. A name that is not of
    this ladder is the top's.
    """
    top = len(ladder) - 1
    wanted = top if before.route is Route.STRONG else 0
    if before.rung:
        wanted = next((place for place, rung in enumerate(ladder) if rung.name == before.rung), top)
    if offered is None or wanted in offered.places:
        return wanted, None
    above = [place for place in offered.places if place > wanted]
    if not offered.places:
        return top, None if wanted == top else offered.refused[wanted]
    return (above or offered.places[-1:])[0], offered.refused[wanted]


def bar_of(bundle: Bundle, policy: Policy, p_rungs: tuple[float, ...], checked: CheckedPolicy | None = None) -> Bar:
    """Return what decides over the rungs between, under a policy over two tiers or three actions.

    A caller's plain threshold holds for every rung. A policy that says nothing of rungs allows none between.
    """
    if bundle.rung_heads is None or not p_rungs:
        return NO_BAR
    said = policy.t_rungs if checked is None else checked.t_rungs
    if said is msgspec.UNSET:
        said = (policy.threshold if policy.kind == "threshold" else NEVER,) * len(p_rungs)
    return Bar(p_rungs, said)


def sure_bar(
    bundle: Bundle, policy: Policy, prompt: Prompt, p_rungs: tuple[float, ...], checked: CheckedPolicy | None = None
) -> Bar:
    """Return `bar_of`; where p that the head in C said lies at a threshold, with p that the graph says.

    Both agree to `PARITY`, and a threshold lay between them once in 365,268 answers: there the graph decides, as ever.

    Raises:
        ModelFault: the graph gave NaN or a number outside [0, 1].
    """
    bar, heads = bar_of(bundle, policy, p_rungs, checked), bundle.rung_heads
    if heads is None or not heads.is_native or not is_at_a_threshold(bar.p_rungs, bar.t_rungs):
        return bar
    return bar_of(bundle, policy, heads.p_rungs(bundle.model.featurize(prompt)), checked)


def is_at_a_threshold(p_rungs: Sequence[float], t_rungs: Sequence[float]) -> bool:
    """Whether a p is so near what it needs that head in C and graph may part."""
    return any(-PARITY <= p - threshold <= PARITY for p, threshold in zip(p_rungs, t_rungs, strict=False))


NO_BAR = Bar()
