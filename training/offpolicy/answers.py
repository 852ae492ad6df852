"""What models answered in the decision log: each answer with its tier, score and cost.

Comes in: the `responses` of a decision, as compaction wrote them. Goes out: its answers, weak before strong; of a
ladder those of all rungs, the cheapest first.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from turnout.serving.bundles.ladder import rung_of
from turnout.serving.decision.judging import SELF_CHECK_TOKENS
from turnout.serving.decision.model_names import is_model
from turnout.serving.decision.prices import Price, PriceList
from turnout.serving.decision.routes import Route
from turnout.serving.errors import PriceUnknown

WEAK, STRONG = 0, 1
"""Columns of everything that has one value a tier; of a ladder there is one a rung, and the top is the last."""

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
    """Of one decision what its answers are read by.

    Attributes:
        created_s: when it was made.
        tier: column of the model that it went to.
        model: that model.
        other_model: of a pair, the other one.
        rungs: of a ladder, the names of all rungs; empty for a pair.
    """

    created_s: float
    tier: int
    model: str
    other_model: str
    rungs: tuple[str, ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the weak and the strong model, of a ladder of all rungs; empty where the log does not say."""
        if self.rungs:
            return self.rungs
        return (self.model, self.other_model) if self.tier == WEAK else (self.other_model, self.model)

    @property
    def top(self) -> int:
        """Column of the strong model."""
        return len(self.models) - 1


def decided_of(row: Mapping[str, Any]) -> Decided:
    """Return what a row of the log's table says of who was to answer."""
    rungs = tuple(row["rungs"] or ())
    tier = WEAK if row["route"] == Route.WEAK else STRONG
    if rungs:
        tier = rungs.index(row["rung"]) if row["rung"] in rungs else len(rungs) - 1
    return Decided(float(row["created"]), tier, str(row["model"]), str(row["other_model"] or ""), rungs)


def answers_of(responses: str | None, decided: Decided) -> tuple[ScoredAnswer | None, ...]:
    """Return the answers of the weak and the strong model, of a ladder of all rungs; None where nothing is known.

    A name that is neither model of the pair is passed over. Logs from before `other_model` do not name it: there
    every name but that of the routed model is the other one.
    """
    found: list[ScoredAnswer | None] = [None] * len(decided.models)
    if decided.rungs:
        for name, answer in (_decode(responses) if responses else {}).items():
            if name in decided.rungs:  # as compaction names them
                found[decided.rungs.index(name)] = answer
        return tuple(found)
    for name, answer in (_decode(responses) if responses else {}).items():
        if is_model(name, decided.model):
            found[decided.tier] = answer
        elif not decided.other_model or is_model(name, decided.other_model):
            found[1 - decided.tier] = answer
    return tuple(found)


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


def cost_usd(answer: ScoredAnswer | None, price: Price | None) -> float | None:
    """Return what an answer cost; None where its tokens or the price are unknown."""
    tokens = tokens_of(answer)
    return None if tokens is None or price is None else price.cost_usd(*tokens)


def prices_of(decided: Decided, prices: PriceList) -> tuple[Price | None, ...]:
    """Return the price of each model on the day of a decision; None where the list lacks one."""
    names = decided.models
    if decided.rungs:
        names = tuple(name if prices.has(name) else rung_of(name).model for name in names)
    return tuple(_price_at(name, decided.created_s, prices) for name in names)


def _price_at(model: str, created_s: float, prices: PriceList) -> Price | None:
    try:
        return prices.price(model, dt.datetime.fromtimestamp(created_s, dt.UTC).date())
    except PriceUnknown:
        return None
