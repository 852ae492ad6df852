"""Exploration: which requests take the other tier, or are flagged for both answers, and how probable that was.

Comes in: the route that would be taken, and the rates that hold for it. Goes out: `After`, with exact propensities.

Two draws of the same key, independent of each other and of all others: the other tier is taken with probability
`other`, both answers are asked for with probability `both`. So an answer is obtained with probability
1 - (1 - p)(1 - both), where p is the probability of its tier.
"""

from __future__ import annotations

import msgspec

from turnout.serving.decision.costs import ExpectedCosts
from turnout.serving.decision.routes import Reason, Route
from turnout.serving.decision.rules.budget import Exploration, ExplorationBudget
from turnout.serving.decision.rules.draws import Purpose, draw


class Rates(msgspec.Struct, frozen=True, gc=False):
    """Shares of sessions: `other`, in [0, 0.5], takes the other tier; of `both`, in [0, 1], both answers are wanted."""

    other: float = 0.0
    both: float = 0.0


class Exploring(msgspec.Struct, frozen=True, gc=False):
    """How much the rules of a file explore, over all requests.

    Attributes:
        least_both: smallest probability, in (0, 1], with which both answers of an explored request are wanted; 0 for
            none.
        most_other: largest share, in [0, 0.5], that takes another tier or rung.
    """

    least_both: float = 0.0
    most_other: float = 0.0


class Chosen(msgspec.Struct, frozen=True, gc=False):
    """The route that is taken unless a draw moves it, why, and what the request is expected to cost at either tier."""

    route: Route
    reason: Reason
    costs: ExpectedCosts


class Drawn(msgspec.Struct, frozen=True, gc=False):
    """What exploration could have made of a request on a ladder: what estimates weigh by.

    Attributes:
        chosen: place of the rung that no draw would have moved.
        take: of each rung, probability that the request takes it; they sum to 1.
        ask: of each rung, probability that its answer is obtained: taken, or wanted as the second.
        both: probability that a second answer is wanted, whichever rung is taken: the top's of one below, else that of
            one of those below.
    """

    chosen: int
    take: tuple[float, ...]
    ask: tuple[float, ...]
    both: float


class After(msgspec.Struct, frozen=True, gc=False):
    """What becomes of the model's choice.

    Attributes:
        route: the tier to take.
        reason: MODEL, OUT_OF_DISTRIBUTION, SESSION or EXPLORATION.
        route_propensity: probability in (0, 1] that this request takes this tier, over the draws of exploration.
            That the rollout let the model decide is given, as are the bundle that a canary's draw chose and the
            state of the cap: none of them depends on the draws of exploration. Requests with reason ROLLOUT are a
            random share of the others, to be left out of an estimate and not weighed.
        wants_both: whether the caller is asked to obtain both models' answers; the tier's is the one to show.
        pair_propensity: probability in [0, 1] that it is asked.
        exploration: whether the request could be explored, and if not, why.
        extra_usd: expected cost above that of the model's choice; negative where exploring saves, 0 where nothing
            was explored, None where a price is unknown.
        place: of a ladder, the rung to take, 0 for the cheapest, and `route_propensity` is its; -1 for a pair, whose
            route says it.
        other: of a ladder, the rung whose answer is wanted beside it; -1 where none is, and for a pair.
        drawn: of a ladder that could be explored, what the draws could have made of it; else None.
    """

    route: Route
    reason: Reason
    route_propensity: float
    wants_both: bool = False
    pair_propensity: float = 0.0
    exploration: Exploration = Exploration.NONE
    extra_usd: float | None = 0.0
    place: int = -1
    other: int = -1
    drawn: Drawn | None = None


def explored(
    chosen: Chosen,
    rates: Rates,
    salt: str,
    key: str,
    max_usd_per_hour: float | None = None,
    budget: ExplorationBudget | None = None,
) -> After:
    """Return what the draws make of a choice.

    Args:
        chosen: what is taken unless they move it.
        rates: that hold for this request.
        salt: of the draws.
        key: of the draws; see `Facts.draw_key`.
        max_usd_per_hour: the cap; None for none.
        budget: what counts towards it; None counts nothing, and then nothing is capped.
    """
    if rates.other == rates.both == 0.0:
        return After(chosen.route, chosen.reason, 1.0)
    state = Exploration.OPEN
    if max_usd_per_hour is not None and budget is not None:
        state = budget.take(max_usd_per_hour, expected_usd(chosen, rates))
    if state is not Exploration.OPEN:
        return After(chosen.route, chosen.reason, 1.0, exploration=state)
    wants_both = rates.both > 0.0 and draw(Purpose.PAIR, salt, key) < rates.both
    moves = rates.other > 0.0 and draw(Purpose.EXPLORATION, salt, key) < rates.other
    second, moved = _extra_usd(chosen)
    return After(
        route=chosen.route.other if moves else chosen.route,
        reason=Reason.EXPLORATION if moves else chosen.reason,
        route_propensity=rates.other if moves else 1.0 - rates.other,
        wants_both=wants_both,
        pair_propensity=rates.both,
        exploration=state,
        extra_usd=second if wants_both else moved if moves else 0.0,
    )


def expected_usd(chosen: Chosen, rates: Rates) -> float | None:
    """Return what exploring a request adds in expectation; None where a price is unknown.

    What exploring to the cheaper model saves is not set against it: it would buy more exploration.
    """
    second, moved = _extra_usd(chosen)
    if second is None or moved is None:
        return None
    return rates.both * second + (1.0 - rates.both) * rates.other * max(0.0, moved)


def _extra_usd(chosen: Chosen) -> tuple[float | None, float | None]:
    """Return the cost of the other answer, and by how much it is above that of the chosen one."""
    usd = {Route.WEAK: chosen.costs.weak_usd, Route.STRONG: chosen.costs.strong_usd}
    own, other = usd[chosen.route], usd[chosen.route.other]
    return other, None if own is None or other is None else other - own
