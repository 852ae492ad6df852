"""Session and exploration over the rungs of a ladder: what `rules` and `exploring` say of a pair, for any number.

Comes in: the rung that the policy chose, and what is known of all. Goes out: `After`, with exact propensities.

The draw that moves a request moves it to each of the other rungs that may take it with equal probability. Both answers
are those of the rung that was taken and of the top, with which all are compared; where the top was taken, of one below,
each with equal probability. So the pair (rung r, top) is obtained with probability
both * (P(r is taken) + P(the top is taken) / rungs below), which for a pair is `both`.
"""

from __future__ import annotations

import msgspec

from turnout.serving.decision.routes import Reason, Route
from turnout.serving.decision.rules.budget import Exploration, ExplorationBudget
from turnout.serving.decision.rules.draws import Purpose, draw
from turnout.serving.decision.rules.exploring import After, Drawn, Rates


class Climb(msgspec.Struct, frozen=True, gc=False):
    """A request on a ladder, after the model.

    Attributes:
        place: of the rung that the policy chose, 0 for the cheapest.
        p: of each rung below the top, P(it is not worse than the top).
        usd: expected cost at each rung; None where unknown.
        offered: places of the rungs that may and can answer, rising.
        previous: place of the rung that the session's request before went to; None for none.
    """

    place: int
    p: tuple[float, ...]
    usd: tuple[float | None, ...]
    offered: tuple[int, ...]
    previous: int | None = None

    @property
    def top(self) -> int:
        """Place of the top."""
        return len(self.usd) - 1

    def held(self, *, stays: bool, counts_switch: bool) -> frozenset[int]:
        """Return the rungs below the session's that a session does not go down to.

        Args:
            stays: whether it never does.
            counts_switch: whether it does not where the rung would cost as much or more, its cold cache counted.
        """
        if self.previous is None or self.previous not in self.offered:
            return frozenset()
        own = self.usd[self.previous]
        return frozenset(
            place
            for place, usd in enumerate(self.usd[: self.previous])
            if stays or (counts_switch and usd is not None and own is not None and usd >= own)
        )


class Draws(msgspec.Struct, frozen=True, gc=False):
    """What draws go by: the salt of the rules, the key of the request, and the cap on what exploration may cost."""

    salt: str
    key: str
    max_usd_per_hour: float | None = None
    budget: ExplorationBudget | None = None


def climbed(climb: Climb, chosen: int, reason: Reason, others: tuple[int, ...], rates: Rates, draws: Draws) -> After:
    """Return what the draws make of a choice.

    Args:
        climb: the request.
        chosen: place of the rung that is taken unless they move it.
        reason: why that one.
        others: places of the rungs that a draw may move it to; none: no draw moves it.
        rates: that hold for this request.
        draws: what they go by.
    """
    below = tuple(place for place in climb.offered if place != climb.top)
    rates = Rates(rates.other if others else 0.0, rates.both if below and climb.top in climb.offered else 0.0)
    if rates.other == rates.both == 0.0:
        return stayed(chosen, reason)
    state = Exploration.OPEN
    if draws.max_usd_per_hour is not None and draws.budget is not None:
        state = draws.budget.take(draws.max_usd_per_hour, _expected_usd(climb, chosen, others, below, rates))
    if state is not Exploration.OPEN:
        return _after(chosen, reason, exploration=state)
    taken = _drawn(Purpose.EXPLORATION, draws, others, rates.other)
    place = chosen if taken is None else taken
    second = _drawn(Purpose.PAIR, draws, below if place == climb.top else (climb.top,), rates.both)
    shares = {one: rates.other / len(others) for one in others} | {chosen: 1.0 - rates.other}
    lower = (below[0] if second is None else second) if place == climb.top else place
    pair = rates.both and rates.both * (shares.get(lower, 0.0) + shares.get(climb.top, 0.0) / len(below))
    return _after(
        place,
        reason if taken is None else Reason.EXPLORATION,
        route_propensity=shares[place],
        wants_both=second is not None,
        pair_propensity=pair,
        exploration=state,
        extra_usd=_extra_usd(climb, chosen, place, second),
        other=-1 if second is None else second,
        drawn=_all_draws(climb, chosen, shares, below, rates.both),
    )


def _all_draws(climb: Climb, chosen: int, shares: dict[int, float], below: tuple[int, ...], both: float) -> Drawn:
    """Return how probable each rung, and each rung's answer, was; `shares` are those of the rungs to be taken."""
    take = tuple(shares.get(place, 0.0) for place in range(climb.top + 1))
    second = take[-1] * both / len(below) if below else 0.0
    ask = [share + (second if place in below else 0.0) for place, share in enumerate(take[:-1])]
    return Drawn(chosen, take, (*ask, take[-1] + both * sum(take[:-1])), both)


def stayed(place: int, reason: Reason) -> After:
    """Return what becomes of a choice that no draw may move."""
    return After(Route.STRONG if place else Route.WEAK, reason, 1.0, place=place)


def _after(place: int, reason: Reason, route_propensity: float = 1.0, **more: object) -> After:
    route = Route.WEAK if place == 0 else Route.STRONG
    return After(route, reason, route_propensity, place=place, **more)  # type: ignore[arg-type]


def _drawn(purpose: Purpose, draws: Draws, places: tuple[int, ...], share: float) -> int | None:
    """Return one of the places, each with probability share / number of them; None with what is left."""
    if not places or share <= 0.0:
        return None
    drawn = draw(purpose, draws.salt, draws.key)
    return places[min(int(drawn / share * len(places)), len(places) - 1)] if drawn < share else None


def _expected_usd(
    climb: Climb, chosen: int, others: tuple[int, ...], below: tuple[int, ...], rates: Rates
) -> float | None:
    """Return what exploring a request adds in expectation, as `exploring.expected_usd`; None without a price."""
    seconds = [climb.usd[place] for place in (below if chosen == climb.top else (climb.top,))]
    moved = [climb.usd[place] for place in others]
    own = climb.usd[chosen]
    known = [usd for usd in (*seconds, *moved) if usd is not None]
    if own is None or len(known) != len(seconds) + len(moved):
        return None
    second = sum(known[: len(seconds)]) / len(seconds)
    more = sum(max(0.0, usd - own) for usd in known[len(seconds) :]) / max(1, len(moved))
    return rates.both * second + (1.0 - rates.both) * rates.other * more


def _extra_usd(climb: Climb, chosen: int, place: int, second: int | None) -> float | None:
    """Return what the answers that are obtained cost above that of the rung chosen; None where a price is unknown."""
    obtained = {place, place if second is None else second}
    parts = [climb.usd[one] for one in obtained - {chosen}]
    if chosen not in obtained:
        own = climb.usd[chosen]
        parts.append(None if own is None else -own)
    known = [usd for usd in parts if usd is not None]
    return sum(known) if len(known) == len(parts) else None
