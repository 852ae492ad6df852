"""What one request is expected to cost at either model of a pair, the caches of its session counted.

Comes in: the pair's prices, token counts, the tier that the session was at. Goes out: `ExpectedCosts` in USD, for
the reply and for the rule that counts the cost of a switch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from turnout.serving.decision.prices import Price, PriceList, load_prices
from turnout.serving.decision.routes import Route
from turnout.serving.errors import PriceUnknown

if TYPE_CHECKING:
    from turnout.serving.bundles.bundle import Pair  # brings onnxruntime

DEFAULT_OUTPUT_TOKENS = 200
"""Length of an answer when the caller does not say what it expects."""


@dataclass(frozen=True, slots=True)
class ExpectedCosts:
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

    @classmethod
    def of(cls, pair: Pair, prices: PriceList | None = None) -> PairPrices:
        """Return the prices of a pair; from the packaged list unless another is given."""
        known = prices or load_prices()
        return cls(_price(known, pair.weak), _price(known, pair.strong))

    def expected_costs(
        self,
        prompt_tokens: int,
        output_tokens: int | None = None,
        cached_tokens: int = 0,
        previous: Route | None = None,
    ) -> ExpectedCosts:
        """Return what a request is expected to cost at both models.

        Args:
            prompt_tokens: estimated tokens of the prompt.
            output_tokens: of the answer; None for 200.
            cached_tokens: of the prompt, held in the cache of the model of `previous`; the other model's cache is
                cold. More than the prompt has counts as all of it.
            previous: tier of the session's request before; None for no session: both caches are cold.

        Raises:
            ValueError: a count is negative.
        """
        output = DEFAULT_OUTPUT_TOKENS if output_tokens is None else output_tokens
        warm = min(cached_tokens, prompt_tokens)
        at_weak, at_strong = warm * (previous is Route.WEAK), warm * (previous is Route.STRONG)
        return ExpectedCosts(
            weak_usd=None if self.weak is None else self.weak.cost_usd(prompt_tokens, output, at_weak),
            strong_usd=None if self.strong is None else self.strong.cost_usd(prompt_tokens, output, at_strong),
        )


def _price(prices: PriceList, model: str) -> Price | None:
    try:
        return prices.price(model)
    except PriceUnknown:
        return None
