"""Tariff: what a call costs: at most, before it is sent; by its usage, afterwards.

The bound holds for text: a byte-level tokeniser makes at most one token of a byte. Images have no such
bound, and whoever makes calls leaves them out.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

import msgspec

from turnout.serving.decision.prices import Price, load_prices
from turnout.serving.errors import PriceUnknown

FRAME_TOKENS = 64
"""Most tokens that a chat template adds around the messages: some 4 for each of a few, and room."""

BYTES_PER_TOKEN = 4
"""Of UTF-8 text, roughly; for expectations, never for bounds."""

BATCH_PRICE = 0.5
"""What vendors ask for a batch, as a share of their list price (OpenAI's Batch API guide), where the list is silent."""

PROMPT_FIELDS = ("messages", "tools", "response_format")


@dataclass(frozen=True, slots=True)
class Tariff:
    """The price of a model's calls."""

    price: Price

    def bound_usd(self, body: dict[str, Any]) -> float:
        """Return what a call costs at most: one token a byte, and all the output it may have."""
        return self.price.cost_usd(_prompt_bytes(body) + FRAME_TOKENS, max_output_tokens(body))

    def expected_usd(self, body: dict[str, Any], completion_tokens: int) -> float:
        """Return what a call costs at four bytes a token and an answer of that length."""
        return self.price.cost_usd(_prompt_bytes(body) // BYTES_PER_TOKEN, completion_tokens)

    def usage_usd(self, prompt_tokens: int | None, completion_tokens: int | None, cached_tokens: int) -> float | None:
        """Return what a call cost; None where the endpoint didn't count, or counted nonsense."""
        if prompt_tokens is None or completion_tokens is None or not 0 <= cached_tokens <= prompt_tokens:
            return None
        return None if completion_tokens < 0 else self.price.cost_usd(prompt_tokens, completion_tokens, cached_tokens)


@dataclass(frozen=True, slots=True)
class GivenPrices:
    """Prices from the command line, USD per million tokens of prompt and of completion."""

    input: float
    output: float


def find_tariff(model: str, given: GivenPrices | None = None, *, is_batch: bool = False) -> Tariff:
    """Return the tariff of a model: from the prices given, else from the price list, in a batch its price there.

    Args:
        model: as the endpoint knows it; a vendor before a slash is left out of the search.
        given: taken as they are; None for the listed ones.
        is_batch: take the listed price of a batch, or half of the other.

    Raises:
        PriceUnknown: neither the list nor the caller has a price.
    """
    if given is not None:
        return Tariff(Price(model, date.min, given.input, given.output))
    try:
        listed = load_prices().price(bare_name(model))
    except PriceUnknown as error:
        raise PriceUnknown(
            f"no price for model {model!r}, so no cap in USD could hold; give --price-input and --price-output in "
            "USD per million tokens (0 for a model of your own)"
        ) from error
    if not is_batch:
        return Tariff(listed)
    if listed.batch_input is None or listed.batch_output is None:
        return Tariff(listed.times(BATCH_PRICE))
    return Tariff(
        msgspec.structs.replace(listed.times(BATCH_PRICE), input=listed.batch_input, output=listed.batch_output)
    )


def bare_name(model: str) -> str:
    """Return a model's name without the vendor that gateways put before it: `openai/gpt-4o` is `gpt-4o`."""
    return model.rpartition("/")[2]


def max_output_tokens(body: dict[str, Any]) -> int:
    """Return the most tokens that the answer to a body may have.

    Raises:
        ValueError: the body sets no limit, so that no cost bound exists.
    """
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    if not isinstance(limit, int) or limit < 1:
        raise ValueError("a paid call needs max_completion_tokens or max_tokens of at least 1")
    return limit


def _prompt_bytes(body: dict[str, Any]) -> int:
    return len(msgspec.json.encode([body[name] for name in PROMPT_FIELDS if name in body]))
