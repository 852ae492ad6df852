"""Log-probabilities: what a model thought of each token of its answer, wherever a log keeps it.

Comes in: `logprobs` of a choice (chat.completions, completions), of a part of a Responses answer, or a plain list. Goes
out: natural log-probabilities of the tokens in their order.
"""

from __future__ import annotations

import math
from typing import Any

LOWEST = -100.0
"""What stands for minus infinity, which JSON can't say: OpenAI writes -9999."""


def token_logprobs(value: Any) -> list[float] | None:
    """Return the log-probability of each token, from -100 to 0; None where none were logged.

    Raises:
        ValueError: there are some and they are no log-probabilities.
    """
    if value is None or value in ([], {}):
        return None
    if isinstance(value, dict):
        for name in ("content", "token_logprobs", "refusal", "tokens", "logprobs"):
            if isinstance(value.get(name), list) and value[name]:
                return token_logprobs(value[name])
        return None
    if not isinstance(value, list):
        raise ValueError("no log-probabilities")  # noqa: TRY004  # callers count it whatever its type
    found = [_one(token) for token in value]
    return [one for one in found if one is not None] or None


def _one(token: Any) -> float | None:
    value = token.get("logprob") if isinstance(token, dict) else token
    if value is None:  # the first token of an echoed prompt has none
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value) or value > 1e-6:
        raise ValueError("no log-probability")
    return min(0.0, max(float(value), LOWEST))


def output_logprobs(output: list[Any] | None) -> Any:
    """Return the `logprobs` of all parts of a Responses answer, one list."""
    parts = [
        part
        for item in output or ()
        if isinstance(item, dict) and isinstance(item.get("content"), list)
        for part in item["content"]
        if isinstance(part, dict)
    ]
    return [token for part in parts for token in part.get("logprobs") or ()] or None
