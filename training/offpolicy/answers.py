"""What models answered in the decision log: each answer with its tier, score and cost.

Comes in: the `responses` of a decision, as compaction wrote them. Goes out: `Answers`, weak before strong.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import msgspec

from turnout.serving.decision.model_names import is_model
from turnout.serving.decision.prices import PriceList
from turnout.serving.errors import PriceUnknown

WEAK, STRONG = 0, 1
"""Columns of everything that has one value a tier."""


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens as the vendor counted them; None where unknown."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What is known of one answer: `score` in [0, 1], and its tokens."""

    score: float | None = None
    usage: Usage = Usage()


_decode = msgspec.json.Decoder(dict[str, Answer]).decode


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


def answers_of(responses: str | None, decided: Decided) -> tuple[Answer | None, Answer | None]:
    """Return the answers of the weak and the strong model; None where nothing is known of one.

    A name that is neither model of the pair is passed over. Logs from before `other_model` do not name it: there
    every name but that of the routed model is the other one.
    """
    found: list[Answer | None] = [None, None]
    for name, answer in (_decode(responses) if responses else {}).items():
        if is_model(name, decided.model):
            found[decided.tier] = answer
        elif not decided.other_model or is_model(name, decided.other_model):
            found[1 - decided.tier] = answer
    return found[WEAK], found[STRONG]


def cost_usd(answer: Answer | None, model: str, created_s: float, prices: PriceList) -> float | None:
    """Return what an answer cost at the price of its day; None where its tokens or the price are unknown."""
    if answer is None or answer.usage.prompt_tokens is None or answer.usage.completion_tokens is None:
        return None
    usage, day = answer.usage, dt.datetime.fromtimestamp(created_s, dt.UTC).date()
    cached = min(usage.cached_tokens or 0, answer.usage.prompt_tokens)
    try:
        return prices.price(model, day).cost_usd(answer.usage.prompt_tokens, answer.usage.completion_tokens, cached)
    except PriceUnknown:
        return None
