"""What models answered in the decision log: each answer with its tier, score and cost.

Comes in: the `responses` of a decision, as compaction wrote them. Goes out: `Answers`, weak before strong.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import msgspec

from turnout.serving.decision.judging import SELF_CHECK_TOKENS
from turnout.serving.decision.model_names import is_model
from turnout.serving.decision.prices import Price, PriceList
from turnout.serving.errors import PriceUnknown

WEAK, STRONG = 0, 1
"""Columns of everything that has one value a tier."""


Tokens = tuple[int, int, int]
"""Of the prompt, of the answer, and those of the prompt that were cached."""


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens as the vendor counted them; None where unknown."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None


class ScoredAnswer(msgspec.Struct, frozen=True, gc=False):
    """What is known of one answer: `score` in [0, 1], its tokens, and those of asking the model if it was right."""

    score: float | None = None
    usage: Usage = Usage()
    self_check_usage: Usage | None = None


_decode = msgspec.json.Decoder(dict[str, ScoredAnswer]).decode


@dataclass(frozen=True, slots=True)
class Decided:
    """Of one decision what its answers are read by: when, which tier and model, and the pair's other model."""

    created_s: float
    tier: int
    model: str
    other_model: str

    @property
    def models(self) -> tuple[str, str]:
        """Names of the weak and the strong model; empty where the log does not say."""
        return (self.model, self.other_model) if self.tier == WEAK else (self.other_model, self.model)


def answers_of(responses: str | None, decided: Decided) -> tuple[ScoredAnswer | None, ScoredAnswer | None]:
    """Return the answers of the weak and the strong model; None where nothing is known of one.

    A name that is neither model of the pair is passed over. Logs from before `other_model` do not name it: there
    every name but that of the routed model is the other one.
    """
    found: list[ScoredAnswer | None] = [None, None]
    for name, answer in (_decode(responses) if responses else {}).items():
        if is_model(name, decided.model):
            found[decided.tier] = answer
        elif not decided.other_model or is_model(name, decided.other_model):
            found[1 - decided.tier] = answer
    return found[WEAK], found[STRONG]


def tokens_of(answer: ScoredAnswer | None) -> Tokens | None:
    """Return the tokens of an answer as the vendor counted them; None where those of prompt or answer are unknown."""
    if answer is None or answer.usage.prompt_tokens is None or answer.usage.completion_tokens is None:
        return None
    prompt = answer.usage.prompt_tokens
    return prompt, answer.usage.completion_tokens, min(answer.usage.cached_tokens or 0, prompt)


def self_check_usd(weak: ScoredAnswer | None, tokens: Tokens | None, price: Price, *, was_asked: bool) -> float:
    """Return what asking the weak model if it was right cost: by its tokens, else by those that it must have taken.

    Args:
        weak: its answer, as outcomes have it.
        tokens: of the answer.
        price: of the weak model.
        was_asked: whether the check was told of a self-check.
    """
    usage = None if weak is None else weak.self_check_usage
    if usage is not None and usage.prompt_tokens is not None:
        cached = min(usage.cached_tokens or 0, usage.prompt_tokens)
        return price.cost_usd(usage.prompt_tokens, usage.completion_tokens or 0, cached)
    if not was_asked or tokens is None:
        return 0.0
    return price.cost_usd(tokens[0] + tokens[1] + SELF_CHECK_TOKENS, 1)


def cost_usd(answer: ScoredAnswer | None, model: str, created_s: float, prices: PriceList) -> float | None:
    """Return what an answer cost at the price of its day; None where its tokens or the price are unknown."""
    tokens, price = tokens_of(answer), price_at(model, created_s, prices)
    return None if tokens is None or price is None else price.cost_usd(*tokens)


def price_at(model: str, created_s: float, prices: PriceList) -> Price | None:
    """Return the price of a model on the day of a decision; None where the list lacks it."""
    try:
        return prices.price(model, dt.datetime.fromtimestamp(created_s, dt.UTC).date())
    except PriceUnknown:
        return None
