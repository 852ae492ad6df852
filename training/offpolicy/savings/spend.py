"""Spend: what each logged request cost, and what the strong model would have cost in its place.

Comes in: the log's table. Goes out: `Spend`, USD a request. Real tokens at the price of the day where an outcome says
them; else what the server expected. What is not known of the strong model's answer is taken from the weak one's: the
same prompt, and an answer longer or shorter by the ratio of the requests that exploration had both answer. Those that
were escalated say nothing of that: they are the hard ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from turnout.training.arrays import Floats
from turnout.training.offpolicy.answers import STRONG, WEAK
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
    n_unpriced: int


def spend_of(table: pa.Table) -> Spend:
    """Return what the requests of a log cost, those without a price left out."""
    rows = table.select(COLUMNS).to_pylist()
    requests = [request for row in rows if (request := request_of(row)) is not None]
    ratio = _length_ratio(requests)
    usd = np.zeros((len(requests), 6))
    for places in _sessions([one.session_id for one in requests]):
        ordered = sorted(places, key=lambda place: requests[place].decided.created_s)
        session = [requests[place] for place in ordered]
        for place, one, warm in zip(ordered, session, warm_tokens([_turn(one) for one in session]), strict=True):
            usd[place] = _spent(one, warm, ratio)
    counted = np.array([one.is_counted for one in requests], dtype=bool)
    spent, second, discarded, self_check, all_strong, switch = usd.T
    n_unpriced = len(rows) - len(requests)
    return Spend(spent, second, discarded, self_check, all_strong, switch, counted, ratio, n_unpriced)


def _turn(one: Request) -> Turn:
    tokens = one.known.get(one.served) or (next(iter(one.known.values()))[0] if one.known else 0, 0, 0)
    return Turn(one.decided.created_s, one.served == WEAK, tokens[0], tokens[2])


def _spent(one: Request, warm: int, ratio: float) -> tuple[float, float, float, float, float, float]:
    """Return (spent, second, discarded, self-check, all strong, switch) of a request."""
    usd = {tier: one.usd(tier) or 0.0 for tier in one.obtained}
    beside = sum(amount for tier, amount in usd.items() if tier != one.served)
    is_discarded = one.served == STRONG and (one.is_tried or one.verdict is not None)
    switch = 0.0
    if one.served in one.known:
        prompt, completion, _ = one.known[one.served]
        switch = max(0.0, usd[one.served] - one.prices[one.served].cost_usd(prompt, completion, warm))
    return (
        sum(usd.values()) + one.self_check_usd,
        0.0 if is_discarded else beside,
        beside if is_discarded else 0.0,
        one.self_check_usd,
        _all_strong(one, warm, ratio),
        switch,
    )


def _all_strong(one: Request, warm: int, ratio: float) -> float:
    if not one.known:
        return one.expected_usd[STRONG] or 0.0
    if STRONG in one.known:
        prompt, completion, _ = one.known[STRONG]
    else:
        prompt, completion = one.known[WEAK][0], round(one.known[WEAK][1] * ratio)
    return one.prices[STRONG].cost_usd(prompt, completion, min(warm, prompt))


def _length_ratio(requests: Sequence[Request]) -> float:
    """Return how much longer strong answers are than weak ones to the same request; 1 where too few are known."""
    pairs = [(one.known[WEAK][1], one.known[STRONG][1]) for one in requests if one.wants_both and len(one.known) == 2]
    total = sum(weak for weak, _ in pairs)
    return sum(strong for _, strong in pairs) / total if len(pairs) >= MIN_PAIRS and total else 1.0


def _sessions(keys: Sequence[str | None]) -> list[list[int]]:
    """Return the places of each session's requests; a request without a session is one of its own."""
    found: dict[object, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        found[key or place].append(place)
    return list(found.values())
