"""Prices: what a request costs at a model, from `prices.toml`.

Comes in: a model's name and token counts. Goes out: USD. Serving states expected costs with it,
training solves the cost policies with it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Annotated

import msgspec

from turnout.serving.errors import PricesRefused, PriceUnknown

PRICES = Path(__file__).with_name("prices.toml")
TOKENS_PER_PRICE = 1_000_000

SNAPSHOT = re.compile(r"-\d{4}-?\d{2}-?\d{2}$")
"""The date at the end of a snapshot's name: `gpt-4o-2024-08-06` answers for `gpt-4o`, `gpt-4o-mini` does not."""

Usd = Annotated[float, msgspec.Meta(ge=0)]


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a model costs from a day on, in USD per million tokens.

    Attributes:
        model: as it stands in a request's `model` field.
        since: first day of this price.
        input, output: of prompt and completion tokens.
        cached_input: of prompt tokens the vendor had cached; None where they cost as much as others.
    """

    model: str
    since: date
    input: Usd
    output: Usd
    cached_input: Usd | None = None

    def cost_usd(self, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> float:
        """Return the cost of one request, in USD.

        Args:
            prompt_tokens: all tokens of the prompt, cached ones included.
            completion_tokens: tokens of the answer.
            cached_tokens: how many of the prompt's tokens the vendor had cached.

        Raises:
            ValueError: a count is negative, or more is cached than was sent.
        """
        if not 0 <= cached_tokens <= prompt_tokens or completion_tokens < 0:
            raise ValueError(
                f"expected 0 <= cached <= prompt tokens and no negative count, got {prompt_tokens} prompt, "
                f"{cached_tokens} cached, {completion_tokens} completion tokens"
            )
        cached = self.input if self.cached_input is None else self.cached_input
        total = (prompt_tokens - cached_tokens) * self.input + cached_tokens * cached + completion_tokens * self.output
        return total / TOKENS_PER_PRICE


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    prices: list[Price]


@dataclass(frozen=True, slots=True)
class PriceList:
    """Every price of a file, in the order of their first days."""

    prices: tuple[Price, ...]

    def price(self, model: str, on: date | None = None) -> Price:
        """Return the price of a model or of one of its dated snapshots; the latest one, or that of a day.

        Raises:
            PriceUnknown: the list has no such model, or none as early as that day.
        """
        names = {price.model for price in self.prices}
        name = model if model in names else SNAPSHOT.sub("", model)
        for price in reversed(self.prices):
            if price.model == name and (on is None or price.since <= on):
                return price
        when = "" if on is None or name not in names else f" on {on}"
        raise PriceUnknown(
            f"no price for model {model!r}{when}; known: {', '.join(sorted(names))}. Add it to the price list"
        )


@cache
def load_prices(path: Path = PRICES) -> PriceList:
    """Read a price list; the packaged one unless another is named.

    Raises:
        PricesRefused: the file can't be read, or an entry is wrong; the message names it.
    """
    try:
        read = msgspec.toml.decode(path.read_bytes(), type=_File)
    except OSError as error:
        raise PricesRefused(f"{path}: cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise PricesRefused(f"{path}: not a price list: {error}") from error
    dates = [(price.model, price.since) for price in read.prices]
    for index, entry in enumerate(dates):
        if entry in dates[:index]:
            raise PricesRefused(f"{path}: two prices for {entry[0]!r} since {entry[1]}; keep one")
    return PriceList(tuple(sorted(read.prices, key=lambda price: price.since)))


def cost_usd(
    model: str,
    prompt_tokens: int,
    completion_tokens: int,
    cached_tokens: int = 0,
    *,
    on: date | None = None,
) -> float:
    """Return what one request costs at a model by the packaged list, in USD; today's price, or that of a day.

    Raises:
        PriceUnknown: the list has no price for the model.
        ValueError: a count is negative, or more is cached than was sent.
    """
    return load_prices().price(model, on).cost_usd(prompt_tokens, completion_tokens, cached_tokens)
