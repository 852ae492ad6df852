"""Costs: what each logged request cost, or would have, at either model of the pair.

Comes in: records. Goes out: USD a row for both models, from the usage that the vendor counted; where a
row lacks it, from the length of prompt and answers, images counted as nothing. Prices are today's: policies are
for requests to come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from turnout.serving.bundles.manifest import Pair
from turnout.serving.decision.judging import SELF_CHECK_TOKENS
from turnout.serving.decision.prices import Price, load_prices
from turnout.serving.decision.routes import estimated_tokens
from turnout.serving.errors import PriceUnknown
from turnout.training.logs.records import Record, Response

MIN_KNOWN_SHARE = 0.5
"""Below it the mean would be that of the rows that happen to hold answers, not of the traffic."""


@dataclass(frozen=True)
class RequestCosts:
    """USD of each request, (n,) float64; NaN where nothing is known of a row, and then in both."""

    strong: NDArray[np.float64]
    weak: NDArray[np.float64]

    @property
    def is_known(self) -> NDArray[np.bool_]:
        """Return (n,) whether a row has its costs."""
        return ~np.isnan(self.strong)

    def take(self, rows: NDArray[np.int64]) -> RequestCosts | None:
        """Return those of some rows; None where nothing is known of any of them."""
        taken = RequestCosts(self.strong[rows], self.weak[rows])
        return taken if taken.is_known.any() else None

    def usd_per_1k(self, goes_weak: NDArray[np.bool_]) -> float:
        """Return the mean cost of 1,000 requests when these (n,) rows go weak, over the rows with costs."""
        known = self.is_known
        return 1000.0 * float(np.where(goes_weak, self.weak, self.strong)[known].mean())


@dataclass(frozen=True)
class CostsUnknown:
    """Why there are no costs, for people."""

    reason: str


def request_costs(records: Sequence[Record], pair: Pair) -> RequestCosts | CostsUnknown:
    """Return what each request costs at either model, or why that can't be said."""
    prices = load_prices()
    try:
        strong, weak = prices.price(pair.strong), prices.price(pair.weak)
    except PriceUnknown as unknown:
        return CostsUnknown(str(unknown))
    usd = np.array([_row(record, strong, weak) for record in records], dtype=np.float64).reshape(-1, 2)
    costs = RequestCosts(usd[:, 0], usd[:, 1])
    n_known = int(costs.is_known.sum())
    if n_known < max(1.0, MIN_KNOWN_SHARE * len(records)):
        return CostsUnknown(f"{n_known} of {len(records)} rows hold usage or text of both answers, half are needed")
    return costs


def self_check_usd(records: Sequence[Record], pair: Pair) -> NDArray[np.float64]:
    """Return (n,) USD of the self-check that came with the weak answer: one more call, with one token of answer.

    0 where none was made; NaN where one was, and its cost is unknown.
    """
    try:
        price = load_prices().price(pair.weak)
    except PriceUnknown:
        price = None
    return np.array([_self_check(record, price) for record in records], dtype=np.float64)


def _self_check(record: Record, price: Price | None) -> float:
    if record.weak is None or record.weak.self_check is None:
        return 0.0
    counts = _logged(record.weak) or _estimated(record, record.weak)
    if price is None or counts is None:
        return float("nan")
    return price.cost_usd(sum(counts) + SELF_CHECK_TOKENS, 1)


def tokens_of(record: Record) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Return the tokens of prompt and answer at the strong and at the weak model; None where one is unknown."""
    answers = (record.strong, record.weak)
    strong, weak = map(_logged, answers)
    if strong is None or weak is None:  # not one logged and one estimated: their difference would be the error
        strong, weak = (_estimated(record, answer) for answer in answers)
    return None if strong is None or weak is None else (strong, weak)


def _row(record: Record, strong: Price, weak: Price) -> tuple[float, float]:
    tokens = tokens_of(record)
    if tokens is None:
        return float("nan"), float("nan")
    return strong.cost_usd(*tokens[0]), weak.cost_usd(*tokens[1])


def _logged(answer: Response | None) -> tuple[int, int] | None:
    if answer is None or answer.prompt_tokens is None or answer.completion_tokens is None:
        return None
    if answer.prompt_tokens < 0 or answer.completion_tokens < 0:
        return None
    return answer.prompt_tokens, answer.completion_tokens


def _estimated(record: Record, answer: Response | None) -> tuple[int, int] | None:
    if answer is None or answer.content is None:
        return None
    return estimated_tokens(record.prompt.text), estimated_tokens(answer.content)
