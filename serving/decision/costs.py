"""What one request is expected to cost at either model of a pair, the caches of its session counted.

Comes in: the pair's prices, token counts, the tier that the session was at. Goes out: `ExpectedCosts` in USD, for
the reply and for the rule that counts the cost of a switch.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import msgspec

from turnout.serving.bundles.ladder import Rung, rung_of
from turnout.serving.decision.prices import SNAPSHOT, Price, PriceList, load_prices
from turnout.serving.decision.routes import Route
from turnout.serving.errors import PriceUnknown
from turnout.serving.router.content import IMAGE_TOKENS

if TYPE_CHECKING:
    from turnout.serving.bundles.manifest import Pair  # brings numpy

logger = logging.getLogger(__name__)

DEFAULT_OUTPUT_TOKENS = 200
"""Length of an answer when the caller does not say what it expects."""

MINI_IMAGE_TOKENS = 25_501
"""OpenAI's guide to images and vision: gpt-4o-mini counts a picture of 1024 x 1024 as 2,833 + 4 x 5,667 tokens, so that
it costs about twice what it does at gpt-4o, whose figure is `IMAGE_TOKENS`."""


class ExpectedCosts(msgspec.Struct, frozen=True, gc=False):
    """USD of one request at either model; None where the price list lacks the model."""

    weak_usd: float | None
    strong_usd: float | None

    @property
    def weak_saves(self) -> bool | None:
        """Whether the weak model is cheaper for this request; None when a price is unknown."""
        if self.weak_usd is None or self.strong_usd is None:
            return None
        return self.weak_usd < self.strong_usd


@dataclass(frozen=True, slots=True)
class PairPrices:
    """The latest prices of a pair; made once a bundle, as a look-up by name costs more than the sum."""

    weak: Price | None
    strong: Price | None
    efforts: tuple[str, str] = ("", "")

    @classmethod
    def of(cls, pair: Pair, prices: PriceList | None = None) -> PairPrices:
        """Return the prices of a pair; from the packaged list unless another is given."""
        known = prices or load_prices()
        weak, strong = rung_of(pair.weak), rung_of(pair.strong)
        return cls(rung_price(weak, known), rung_price(strong, known), (weak.effort, strong.effort))

    def expected_costs(
        self,
        prompt_tokens: int,
        output_tokens: int | None = None,
        cached_tokens: int = 0,
        previous: Route | None = None,
        *,
        images: int = 0,
    ) -> ExpectedCosts:
        """Return what a request is expected to cost at both models.

        Args:
            prompt_tokens: estimated tokens of the prompt, its images left out.
            output_tokens: of the answer; None for 200.
            cached_tokens: of the prompt, held in the cache of the model of `previous`; the other model's cache is
                cold. More than the prompt has counts as all of it.
            previous: tier of the session's request before; None for no session: both caches are cold.
            images: how many of them there are; each counts as `image_tokens` of the model.

        Raises:
            ValueError: a count is negative.
        """
        output = DEFAULT_OUTPUT_TOKENS if output_tokens is None else output_tokens
        weak, strong = self.efforts
        return ExpectedCosts(
            weak_usd=_usd(self.weak, prompt_tokens, output, cached_tokens * (previous is Route.WEAK), images, weak),
            strong_usd=_usd(
                self.strong, prompt_tokens, output, cached_tokens * (previous is Route.STRONG), images, strong
            ),
        )


@dataclass(frozen=True, slots=True)
class LadderPrices:
    """The latest prices of a ladder's rungs, the cheapest first, and their efforts; None where the list lacks one."""

    prices: tuple[Price | None, ...]
    efforts: tuple[str, ...]

    @classmethod
    def of(cls, ladder: Sequence[Rung], prices: PriceList | None = None) -> LadderPrices:
        """Return the prices of a ladder; from the packaged list unless another is given."""
        known = prices or load_prices()
        return cls(tuple(rung_price(rung, known) for rung in ladder), tuple(rung.effort for rung in ladder))

    @property
    def windows(self) -> tuple[float, ...]:
        """Tokens of prompt and answer that each rung's model takes; infinite where the list doesn't say."""
        found = (None if price is None else price.context_window for price in self.prices)
        return tuple(math.inf if window is None else float(window) for window in found)

    def expected_usd(
        self,
        prompt_tokens: int,
        output_tokens: int | None = None,
        cached_tokens: int = 0,
        previous: int | None = None,
        *,
        images: int = 0,
    ) -> tuple[float | None, ...]:
        """Return USD of one request at each rung; as `PairPrices.expected_costs`, `previous` being a rung's place."""
        output = DEFAULT_OUTPUT_TOKENS if output_tokens is None else output_tokens
        return tuple(
            _usd(price, prompt_tokens, output, cached_tokens * (place == previous), images, effort)
            for place, (price, effort) in enumerate(zip(self.prices, self.efforts, strict=True))
        )


def image_tokens(model: str) -> int:
    """Return what one picture counts as at a model."""
    return MINI_IMAGE_TOKENS if SNAPSHOT.sub("", model) == "gpt-4o-mini" else IMAGE_TOKENS


def _usd(price: Price | None, tokens: int, output: int, cached: int, images: int, effort: str) -> float | None:
    """Return USD of a call; what a model thinks is billed beside the `output` tokens that it shows."""
    if price is None:
        return None
    if price.reasoning_tokens or price.effort:
        output = price.expected_tokens(output, effort)
    prompt = tokens + (images * image_tokens(price.model) if images else 0)
    return price.cost_usd(prompt, output, min(cached, prompt) if cached else 0)


def rung_price(rung: Rung, prices: PriceList) -> Price | None:
    """Return the latest price of a rung, its effort counted; None, said once, where the list lacks its model."""
    try:
        return prices.price(rung.name if prices.has(rung.name) else rung.model)
    except PriceUnknown as error:
        _say_once(str(error))
        return None


@cache
def _say_once(reason: str) -> None:
    """Warn of a model without a price, once: what it costs is left out everywhere, and no route depends on it."""
    logger.warning("%s; requests are routed all the same, without what they cost", reason)
