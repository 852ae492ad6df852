"""Spend: what each logged request cost, and what the strong model would have cost in its place.

Comes in: the log's table. Goes out: `Spend`, USD a request. Real tokens at the price of the day where an outcome says
them; else what the server expected. What is not known of the strong model's answer is taken from the weak one's: the
same prompt, and an answer longer or shorter by the ratio of the requests that exploration had both answer. Those that
were escalated say nothing of that: they are the hard ones. A ladder has a ratio a rung; until it is known, the strong
model's answer is as long as the one that was shown, and what either thinks before it is what the price list expects.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from turnout.serving.bundles.ladder import rung_of
from turnout.training.arrays import Floats
from turnout.training.offpolicy.answers import WEAK
from turnout.training.offpolicy.savings.caches import Turn, warm_tokens
from turnout.training.offpolicy.savings.requests import COLUMNS, Request, request_of

MIN_PAIRS = 30
"""Requests answered by both models below which their answers are taken to be equally long."""


@dataclass(frozen=True)
class Spend:
    """USD of each request, (n,).

    Attributes:
        spent: on all answers that were obtained, and on self-checks.
        second: of it, on answers beside the one that was shown, discarded ones left out.
        discarded: of it, on weak answers that were tried and escalated.
        self_check: of it, on asking the weak model whether its answer was right.
        all_strong: what the strong model alone would have cost, its caches warm.
        switch: of `spent`, what caches that a switch left cold cost.
        is_counted: whether a request's tokens are the vendor's; else some of its costs are those expected.
        length_ratio: tokens of a strong answer over those of a weak one.
        length_ratios: of ladders, those of the top's answer over each rung's; None where too few are known.
        n_unpriced: requests left out, as the price list lacks a model or the log its costs.
    """

    spent: Floats
    second: Floats
    discarded: Floats
    self_check: Floats
    all_strong: Floats
    switch: Floats
    is_counted: NDArray[np.bool_]
    length_ratio: float
    length_ratios: dict[str, float | None]
    n_unpriced: int


def spend_of(table: pa.Table) -> Spend:
    """Return what the requests of a log cost, those without a price left out."""
    rows = table.select(COLUMNS).to_pylist()
    requests = [request for row in rows if (request := request_of(row)) is not None]
    ratios = Ratios(requests)
    usd = np.zeros((len(requests), 6))
    for places in _sessions([one.session_id for one in requests]):
        ordered = sorted(places, key=lambda place: requests[place].decided.created_s)
        session = [requests[place] for place in ordered]
        for place, one, warm in zip(ordered, session, warm_tokens([_turn(one) for one in session]), strict=True):
            usd[place] = _spent(one, warm, ratios)
    counted = np.array([one.is_counted for one in requests], dtype=bool)
    spent, second, discarded, self_check, all_strong, switch = usd.T
    n_unpriced = len(rows) - len(requests)
    return Spend(spent, second, discarded, self_check, all_strong, switch, counted, *ratios.shown, n_unpriced)


def _turn(one: Request) -> Turn:
    tokens = one.known.get(one.served) or (next(iter(one.known.values()))[0] if one.known else 0, 0, 0)
    return Turn(one.decided.created_s, one.decided.models[one.served], tokens[0], tokens[2])


def _spent(one: Request, warm: int, ratios: Ratios) -> tuple[float, float, float, float, float, float]:
    """Return (spent, second, discarded, self-check, all strong, switch) of a request."""
    usd = {tier: one.usd(tier) or 0.0 for tier in one.obtained}
    beside = sum(amount for tier, amount in usd.items() if tier != one.served)
    is_discarded = one.served != WEAK and (one.is_tried or one.verdict is not None)
    switch = 0.0
    if one.served in one.known:
        prompt, completion, _ = one.known[one.served]
        switch = max(0.0, usd[one.served] - one.price(one.served).cost_usd(prompt, completion, warm))
    return (
        sum(usd.values()) + one.self_check_usd,
        0.0 if is_discarded else beside,
        beside if is_discarded else 0.0,
        one.self_check_usd,
        _all_strong(one, warm, ratios),
        switch,
    )


def _all_strong(one: Request, warm: int, ratios: Ratios) -> float:
    top = one.decided.top
    if not one.known:
        return one.expected_usd[top] or 0.0
    if top in one.known:
        prompt, completion, _ = one.known[top]
    else:
        rung = one.served if one.served in one.known else max(one.known)
        prompt, completion = one.known[rung][0], ratios.at_top(one, rung)
    return one.price(top).cost_usd(prompt, completion, min(warm, prompt))


Rung = tuple[tuple[str, ...], int]
"""Names of a ladder, empty for a pair, and the place on it."""


class Ratios:
    """How much longer strong answers are than others to the same request, by what exploration had both answer."""

    def __init__(self, requests: Sequence[Request]) -> None:
        """Take the requests of a log."""
        lengths: dict[Rung, list[tuple[int, int]]] = defaultdict(list)
        self._ladders = {one.decided.rungs for one in requests}
        for one in requests:
            top = one.decided.top
            if one.wants_both and len(one.known) == 2 and top in one.known:
                lengths[one.decided.rungs, min(one.known)].append((one.known[min(one.known)][1], one.known[top][1]))
        self._known = {rung: ratio for rung, pairs in lengths.items() if (ratio := _ratio(pairs)) is not None}

    @property
    def shown(self) -> tuple[float, dict[str, float | None]]:
        """The ratio of the weak model, 1 where too few are known, and those of each rung of ladders by its name."""
        first = self._known.get(((), WEAK), 1.0)
        by_name = {
            name: self._known.get((names, place))
            for names in sorted(self._ladders)
            for place, name in enumerate(names[:-1])
        }
        return first, by_name

    def at_top(self, one: Request, rung: int) -> int:
        """Return the tokens that the strong model's answer is taken to have, given those of a rung's."""
        completion, names = one.known[rung][1], one.decided.rungs
        if not names or (names, rung) in self._known:
            return round(completion * self._known.get((names, rung), 1.0))
        own, top = one.price(rung), one.price(one.decided.top)
        if not (own.reasoning_tokens or top.reasoning_tokens):
            return completion
        shown = completion / own.effort.get(rung_of(names[rung]).effort, 1.0) - own.reasoning_tokens
        return top.expected_tokens(max(0.0, shown), rung_of(names[-1]).effort)


def _ratio(pairs: Sequence[tuple[int, int]]) -> float | None:
    """Return how much longer the second ones are; None where too few are known."""
    total = sum(weak for weak, _ in pairs)
    return sum(strong for _, strong in pairs) / total if len(pairs) >= MIN_PAIRS and total else None


def _sessions(keys: Sequence[str | None]) -> list[list[int]]:
    """Return the places of each session's requests; a request without a session is one of its own."""
    found: dict[object, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        found[key or place].append(place)
    return list(found.values())
