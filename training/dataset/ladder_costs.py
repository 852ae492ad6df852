"""Costs of a ladder: what each request costs at every rung.

Comes in: requests and the operator's prices. Goes out: (n, k) USD. A rung's usage is what its vendor counted; where any
rung of a request lacks it, all are estimated alike: the prompt's length, and that of the rung's own answer or of the
other rungs' mean, with the tokens that its model thinks in (`Price.reasoning_tokens`), by its effort.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from turnout.serving.bundles.ladder import Rung
from turnout.serving.bundles.manifest import Pair
from turnout.serving.decision.prices import Price, load_prices
from turnout.serving.decision.routes import estimated_tokens
from turnout.serving.errors import PriceUnknown
from turnout.training.arrays import Floats
from turnout.training.dataset.costs import MIN_KNOWN_SHARE, CostsUnknown, self_check_usd
from turnout.training.logs.records import Record, Response
from turnout.training.logs.requests import LoggedRequest

FEW_TOKENS = 1
"""Of an answer that no rung shows, as where a log holds scores alone: the prompt costs, and what is thought."""


def ladder_costs(requests: Sequence[LoggedRequest], rungs: Sequence[Rung]) -> Floats | CostsUnknown:
    """Return (n, k) USD, unknown rows at the mean of the others; or why that can't be said."""
    list_, prices, missing = load_prices(), list[Price](), list[str]()
    for rung in rungs:
        try:
            prices.append(list_.price(rung.model))
        except PriceUnknown:
            missing.append(rung.name)
    if missing:
        return CostsUnknown(
            f"no price of {', '.join(missing)}, so that the rungs count by their order alone; name a list that has "
            "them by --prices"
        )
    usd = np.array([_row(request, rungs, prices) for request in requests], dtype=np.float64).reshape(-1, len(rungs))
    known = ~np.isnan(usd[:, -1])
    if known.mean() < MIN_KNOWN_SHARE:
        return CostsUnknown(f"{int(known.sum())} of {known.size} rows hold usage or text, half are needed")
    return np.where(known[:, None], usd, usd[known].mean(axis=0))


def ladder_check_usd(records: Sequence[Record], ends: Pair, usd: Floats, *, is_priced: bool) -> Floats:
    """Return (n,) what checking adds to a try of the first rung; a self-check of unknown cost is as an answer.

    Args:
        records: n rows.
        ends: the first rung and the top.
        usd: (n, k) costs of the rungs.
        is_priced: whether those are money.
    """
    check = self_check_usd(records, ends)
    was_checked = np.isnan(check) | (check > 0.0)
    return np.where(np.isnan(check) | (was_checked & (not is_priced)), usd[:, 0], check)


def length_of(answer: Response) -> int | None:
    """Return the length of an answer in estimated tokens; None where neither its text nor that is known."""
    return answer.length if answer.content is None else estimated_tokens(answer.content)


def _row(request: LoggedRequest, rungs: Sequence[Rung], prices: Sequence[Price]) -> list[float]:
    answers = [request.answers.get(number) for number in range(len(rungs))]
    counted = [
        None
        if one is None or one.prompt_tokens is None or one.completion_tokens is None
        else (one.prompt_tokens, one.completion_tokens)
        for one in answers
    ]
    if all(one is not None and min(one) >= 0 for one in counted):
        return [price.cost_usd(*one) for price, one in zip(prices, counted, strict=True) if one is not None]
    if not request.record.prompt.text:
        return [float("nan")] * len(rungs)
    shown = [None if one is None else length_of(one) for one in answers]
    known = [one for one in shown if one is not None]
    usual = sum(known) / len(known) if known else FEW_TOKENS
    prompt = estimated_tokens(request.record.prompt.text)
    return [
        price.cost_usd(prompt, price.expected_tokens(usual if one is None else one, rung.effort))
        for price, one, rung in zip(prices, shown, rungs, strict=True)
    ]
