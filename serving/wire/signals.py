"""Signals as they come over the wire, to `Signals` that can be true: finite, in range, as long as they should be.

Comes in: an `AnswerSignals` message, or numbers of a vendor's reply. Goes out: `Signals`, and the names of what was
left out. What is wrong with a number is never an error: it is left out, and the verdict goes by what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from turnout.serving.router.answer import Answer, Signals

ROUNDING = 1e-6
"""A log-probability may be so far above 0: vendors round."""
LEAST = -100.0
"""Stands for all below it, -inf included: e^-100 is never, and no sum of such numbers overflows."""
MOST_MARGIN = 100.0
SPARE_TOKENS = 8
"""Tokens without bytes of their own, such as the end of the answer."""
MAX_TOKEN_BYTES = 256
"""The longest token of OpenAI's vocabularies has 128 bytes; fewer tokens than this allows are not the whole answer."""


def signals_of(message: Any, answer: Answer) -> tuple[Signals, tuple[str, ...]]:
    """Return the signals of an `AnswerSignals` that can be true of this answer, and the names of the others."""
    ignored: list[str] = []
    tokens = _logprobs(message.token_logprobs)
    if message.token_logprobs and (tokens is None or not _fits(len(tokens), answer)):
        tokens = None
        ignored.append("token_logprobs")
    margins = None if tokens is None else _margins(tokens, message.alternative_logprobs)
    if message.alternative_logprobs and margins is None:
        ignored.append("alternative_logprobs")
    single = {name: _single(message, name, ignored) for name in ("mean_logprob", "self_check")}
    return Signals(token_logprobs=tokens, top_margins=margins, **single), tuple(ignored)


def _single(message: Any, name: str, ignored: list[str]) -> float | None:
    if not message.HasField(name):
        return None
    value = _logprob(getattr(message, name))
    if value is None:
        ignored.append(name)
    return value


def _logprob(value: float) -> float | None:
    """Return a log-probability within bounds; None for NaN and for what is above 0."""
    if not value <= ROUNDING:  # NaN as well
        return None
    return min(0.0, max(LEAST, value))


def _logprobs(values: Sequence[float]) -> tuple[float, ...] | None:
    """Return them all; None where there is none, or one of them is no log-probability."""
    if not values or not all(value <= ROUNDING for value in values):  # False for NaN as well
        return None
    return tuple(min(0.0, max(LEAST, value)) for value in values)


def _margins(tokens: Sequence[float], alternatives: Sequence[float]) -> tuple[float, ...] | None:
    if len(alternatives) != len(tokens):
        return None
    others = _logprobs(alternatives)
    if others is None:
        return None
    return tuple(min(MOST_MARGIN, own - other) for own, other in zip(tokens, others, strict=True))


def _fits(n_tokens: int, answer: Answer) -> bool:
    """Whether an answer may have so many tokens: calls of tools have tokens that the text does not show."""
    n_bytes = len(answer.text.encode("utf-8", "replace"))
    is_short_enough = answer.tool_calls > 0 or n_tokens <= n_bytes + SPARE_TOKENS
    return is_short_enough and n_tokens * MAX_TOKEN_BYTES >= n_bytes
