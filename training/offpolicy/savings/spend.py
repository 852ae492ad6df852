"""Spend: what each logged request cost, and what the strong model would have cost in its place.

Comes in: the log's table. Goes out: `Spend`, USD a request. Real tokens at the price of the day where an outcome says
them; else what the server expected. What is not known of the strong model's answer is taken from the weak one's: the
same prompt, and an answer longer or shorter by the ratio of the requests that both answered.
"""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from turnout.serving.decision.prices import Price, load_prices
from turnout.serving.decision.routes import Route
from turnout.serving.errors import PriceUnknown
from turnout.training.arrays import Floats
from turnout.training.offpolicy.answers import STRONG, WEAK, Answer, Decided, answers_of
from turnout.training.offpolicy.savings.caches import Turn, warm_tokens

COLUMNS = ("created", "route", "model", "other_model", "session_id", "responses", "weak_cost_usd", "strong_cost_usd")
MIN_PAIRS = 30
"""Requests answered by both models below which their answers are taken to be equally long."""


@dataclass(frozen=True)
class Spend:
    """USD of each request, (n,).

    Attributes:
        spent: on all answers that were obtained.
        second: of it, on answers beside the one that was routed to.
        all_strong: what the strong model alone would have cost, its caches warm.
        switch: of `spent`, what caches that a switch left cold cost.
        is_counted: whether a request's tokens are the vendor's; else its costs are those expected.
        length_ratio: tokens of a strong answer over those of a weak one.
        n_unpriced: requests left out, as the price list lacks a model or the log its costs.
    """

    spent: Floats
    second: Floats
    all_strong: Floats
    switch: Floats
    is_counted: NDArray[np.bool_]
    length_ratio: float
    n_unpriced: int


@dataclass(frozen=True, slots=True)
class _Request:
    """One decision with the answers that are known of it."""

    decided: Decided
    answers: tuple[Answer | None, Answer | None]
    prices: tuple[Price, Price]
    expected_usd: tuple[float | None, float | None]

    @property
    def known(self) -> dict[int, tuple[int, int, int]]:
        """Prompt, completion and cached tokens of each answer that the vendor counted, by tier."""
        found = {}
        for tier, answer in enumerate(self.answers):
            if answer is None or answer.usage.prompt_tokens is None or answer.usage.completion_tokens is None:
                continue
            usage = answer.usage
            cached = min(usage.cached_tokens or 0, answer.usage.prompt_tokens)
            found[tier] = (answer.usage.prompt_tokens, answer.usage.completion_tokens, cached)
        return found

    @property
    def tier(self) -> int:
        """Who answered: the routed tier, or the other one where the caller fell back."""
        known = self.known
        return self.decided.tier if self.decided.tier in known or not known else next(iter(known))


def spend_of(table: pa.Table) -> Spend:
    """Return what the requests of a log cost, those without a price left out."""
    rows = table.select(COLUMNS).to_pylist()
    requests = [(row["session_id"], request) for row in rows if (request := _request(row)) is not None]
    ratio = _length_ratio([request for _, request in requests])
    usd = np.zeros((len(requests), 4))
    counted = np.zeros(len(requests), dtype=bool)
    for places in _sessions([session for session, _ in requests]):
        ordered = sorted(places, key=lambda place: requests[place][1].decided.created_s)
        session = [requests[place][1] for place in ordered]
        for place, one, warm in zip(ordered, session, warm_tokens([_turn(one) for one in session]), strict=True):
            counted[place] = bool(one.known)
            usd[place] = _counted(one, warm, ratio) if one.known else _expected(one)
    spent, second, all_strong, switch = usd.T
    return Spend(spent, second, all_strong, switch, counted, ratio, n_unpriced=len(rows) - len(requests))


def _request(row: dict[str, object]) -> _Request | None:
    """Return a row of the log; None where neither tokens and prices nor expected costs tell what it cost."""
    tier = WEAK if row["route"] == Route.WEAK else STRONG
    decided = Decided(float(row["created"]), tier, str(row["model"]), str(row["other_model"] or ""))  # type: ignore[arg-type]
    responses = row["responses"]
    day = dt.datetime.fromtimestamp(decided.created_s, dt.UTC).date()
    expected = (row["weak_cost_usd"], row["strong_cost_usd"])
    try:
        prices = tuple(load_prices().price(model, day) for model in decided.models)
    except PriceUnknown:
        return None
    answers = answers_of(None if responses is None else str(responses), decided)
    request = _Request(decided, answers, prices, expected)  # type: ignore[arg-type]
    return request if request.known or None not in expected else None


def _turn(one: _Request) -> Turn:
    tokens = one.known.get(one.tier, (0, 0, 0))
    return Turn(one.decided.created_s, one.tier == WEAK, tokens[0], tokens[2])


def _counted(one: _Request, warm: int, ratio: float) -> tuple[float, float, float, float]:
    """Return (spent, second, all strong, switch) of a request whose tokens are known."""
    cost = {tier: one.prices[tier].cost_usd(*tokens) for tier, tokens in one.known.items()}
    prompt, completion, _ = one.known[one.tier]
    completion = one.known[STRONG][1] if STRONG in one.known else round(completion * ratio)
    as_warm = one.prices[one.tier].cost_usd(prompt, one.known[one.tier][1], warm)
    spent = sum(cost.values())
    return (
        spent,
        spent - cost[one.tier],
        one.prices[STRONG].cost_usd(prompt, completion, warm),
        max(0.0, cost[one.tier] - as_warm),
    )


def _expected(one: _Request) -> tuple[float, float, float, float]:
    routed, strong = one.expected_usd[one.decided.tier], one.expected_usd[STRONG]
    return routed or 0.0, 0.0, strong or 0.0, 0.0


def _length_ratio(requests: Sequence[_Request]) -> float:
    """Return how much longer strong answers are than weak ones to the same request; 1 where too few are known."""
    pairs = [(one.known[WEAK][1], one.known[STRONG][1]) for one in requests if len(one.known) == 2]
    total = sum(weak for weak, _ in pairs)
    return sum(strong for _, strong in pairs) / total if len(pairs) >= MIN_PAIRS and total else 1.0


def _sessions(keys: Sequence[str | None]) -> list[list[int]]:
    """Return the places of each session's requests; a request without a session is one of its own."""
    found: dict[object, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        found[key or place].append(place)
    return list(found.values())
