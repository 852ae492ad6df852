"""Prices: what a request costs at a model, from `prices.toml` and the operator's own list above it.

Comes in: a model's name and token counts. Goes out: USD. Serving states expected costs with it,
training solves the cost policies with it.

The operator's list is named by `--prices` or `TURNOUT_PRICES`: a TOML file as ours, in any currency, or LiteLLM's price
map as JSON. What it says of a model replaces all that our list says of it.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any

import msgspec

from turnout.serving.errors import PricesRefused, PriceUnknown

PRICES = Path(__file__).with_name("prices.toml")
OWN_LIST = "TURNOUT_PRICES"
"""The environment's name for the operator's list; `--prices` sets it, so that worker processes see it too."""
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
        batch_input, batch_output: of tokens sent by a batch; None where nothing is known of it.
        reasoning_tokens: completion tokens of a usual request that are billed and stand in no answer; at the effort
            that the model takes where a request names none.
        effort: by reasoning effort, how many times the completion tokens of a usual request it takes; 1 where absent.
        context_window: tokens of prompt and answer together that the model takes; None where nothing is known of it.
    """

    model: str
    since: date
    input: Usd
    output: Usd
    cached_input: Usd | None = None
    batch_input: Usd | None = None
    batch_output: Usd | None = None
    reasoning_tokens: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    effort: dict[str, Annotated[float, msgspec.Meta(gt=0)]] = {}
    context_window: Annotated[int, msgspec.Meta(gt=0)] | None = None

    def expected_tokens(self, shown: float, effort: str = "") -> int:
        """Return the completion tokens that are billed for an answer of so many, at a reasoning effort; rounded up."""
        return math.ceil((shown + self.reasoning_tokens) * self.effort.get(effort, 1.0))

    def times(self, factor: float) -> Price:
        """Return the price with every amount times a factor."""
        amounts = {name: getattr(self, name) for name in AMOUNTS}
        return msgspec.structs.replace(
            self, **{name: amount * factor for name, amount in amounts.items() if amount is not None}
        )

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


AMOUNTS = ("input", "output", "cached_input", "batch_input", "batch_output")


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A price list: amounts per million tokens of `currency`; a unit of it is worth `usd_per_unit` USD."""

    prices: list[Price]
    currency: str = "USD"
    usd_per_unit: Annotated[float, msgspec.Meta(gt=0)] | None = None


class _MapEntry(msgspec.Struct, frozen=True):
    """What is read of an entry of LiteLLM's price map: USD per token."""

    input_cost_per_token: Usd | None = None
    output_cost_per_token: Usd | None = None
    cache_read_input_token_cost: Usd | None = None
    input_cost_per_token_batches: Usd | None = None
    output_cost_per_token_batches: Usd | None = None
    max_input_tokens: Any = None


@dataclass(frozen=True)
class PriceList:
    """Every price, in the order of their first days.

    Attributes:
        prices: of the shipped list, where the operator's has nothing of the model, and of the operator's.
        own: models whose prices are the operator's.
    """

    prices: tuple[Price, ...]
    own: frozenset[str] = frozenset()

    @cached_property
    def _by_model(self) -> dict[str, list[Price]]:
        found: dict[str, list[Price]] = {}
        for price in self.prices:
            found.setdefault(price.model, []).append(price)
        return found

    def over(self, shipped: PriceList) -> PriceList:
        """Return a shipped list with this one above it."""
        own = frozenset(price.model for price in self.prices)
        kept = (price for price in shipped.prices if price.model not in own)
        return PriceList(tuple(sorted((*kept, *self.prices), key=lambda price: price.since)), own)

    def has(self, model: str) -> bool:
        """Whether a model, or one of its efforts such as `o3:high`, has entries under this very name."""
        return model in self._by_model

    def price(self, model: str, on: date | None = None) -> Price:
        """Return the price of a model or of one of its dated snapshots; the latest one, or that of a day.

        Raises:
            PriceUnknown: the list has no such model, or none as early as that day.
        """
        name = model if model in self._by_model else SNAPSHOT.sub("", model)
        known = self._by_model.get(name, [])
        for price in reversed(known):
            if on is None or price.since <= on:
                return price
        when = f" on {on}" if known else ""
        raise PriceUnknown(
            f"no price for model {model!r}{when}; known: {shown(self._by_model)}. Name a list that has it: "
            f"--prices FILE or {OWN_LIST}"
        )


def shown(names: Iterable[str], most: int = 12) -> str:
    """Return names in their order, the first of many."""
    some = sorted(names)
    return ", ".join(some[:most]) + (f" and {len(some) - most} more" if len(some) > most else "")


def load_prices() -> PriceList:
    """Return the shipped list with the operator's above it, where the environment names one.

    Raises:
        PricesRefused: as `read_prices`.
    """
    return _layered(os.environ.get(OWN_LIST, ""))


@cache
def _layered(own: str) -> PriceList:
    shipped = read_prices(PRICES)
    return read_prices(Path(own)).over(shipped) if own else shipped


def read_prices(path: Path) -> PriceList:
    """Read one list: LiteLLM's price map where the file is JSON, else TOML.

    Raises:
        PricesRefused: the file can't be read, or an entry is wrong; the message names it.
    """
    try:
        raw = path.read_bytes()
        prices = _from_map(raw) if path.suffix == ".json" else _from_toml(raw)
    except OSError as error:
        raise PricesRefused(f"{path}: cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise PricesRefused(f"{path}: not a price list: {error}") from error
    dates = [(price.model, price.since) for price in prices]
    for entry, n in Counter(dates).items():
        if n > 1:
            raise PricesRefused(f"{path}: two prices for {entry[0]!r} since {entry[1]}; keep one")
    return PriceList(tuple(sorted(prices, key=lambda price: price.since)))


def _from_toml(raw: bytes) -> list[Price]:
    read = msgspec.toml.decode(raw, type=_File)
    if read.currency.upper() == "USD":
        return read.prices
    if read.usd_per_unit is None:
        raise ValueError(f"amounts in {read.currency}: say what one is worth by `usd_per_unit = ...`")
    return [price.times(read.usd_per_unit) for price in read.prices]


def _from_map(raw: bytes) -> list[Price]:
    """Return the prices of a LiteLLM map; models that are not billed by the token are left out.

    It has no dates: an entry holds for all days.
    """
    found = msgspec.json.decode(raw, type=dict[str, _MapEntry])
    prices = [
        Price(
            model,
            date.min,
            entry.input_cost_per_token,
            entry.output_cost_per_token,
            entry.cache_read_input_token_cost,
            entry.input_cost_per_token_batches,
            entry.output_cost_per_token_batches,
            context_window=_window(entry.max_input_tokens),
        ).times(TOKENS_PER_PRICE)
        for model, entry in found.items()
        if entry.input_cost_per_token is not None and entry.output_cost_per_token is not None
    ]
    if not prices:
        raise ValueError("no entry has input_cost_per_token and output_cost_per_token")
    return prices


def _window(found: Any) -> int | None:
    """Return a context window where the map has a number; its first entry has a sentence there."""
    return found if isinstance(found, int) and found > 0 else None


def cost_usd(
    model: str,
    prompt_tokens: int,
    completion_tokens: int,
    cached_tokens: int = 0,
    *,
    on: date | None = None,
) -> float:
    """Return what one request costs at a model by `load_prices`, in USD; today's price, or that of a day.

    Raises:
        PriceUnknown: the list has no price for the model.
        ValueError: a count is negative, or more is cached than was sent.
    """
    return load_prices().price(model, on).cost_usd(prompt_tokens, completion_tokens, cached_tokens)
