"""Chat completions as JSON: what to ask for so that an answer brings signals, and what it says of itself.

Comes in: the body of a call, and the body of its answer, which comes from another machine and may hold anything.
Goes out: bodies to send, `AnswerItem` for the second look, usage of several calls in one. Nothing here raises on what
an upstream may send: what is not of the expected form counts as absent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from turnout.serving.wire.asking_check import AnswerItem

TOP_LOGPROBS = 2
"""Enough to see the best other token, whichever of both was chosen."""
SELF_CHECK_QUESTION = "Is the answer above correct and complete? Reply with one word: Yes or No."
REFUSED_BY_REASONING = frozenset(
    {"max_tokens", "temperature", "top_p", "presence_penalty", "frequency_penalty", "logit_bias"}
    | {"logprobs", "top_logprobs"}
)
YES, NO = frozenset({"yes", "true"}), frozenset({"no", "false"})


def at_rung(body: Mapping[str, Any], model: str, effort: str = "") -> dict[str, Any]:
    """Return the body of a call for a rung: its model, and where it has one its reasoning effort.

    Models that reason refuse the parameters of sampling, and know `max_tokens` under its later name (OpenAI, guide to
    reasoning models): a caller who asks for whichever model is right can't know, so they are left out for such a rung.
    """
    if not effort:
        return {**body, "model": model}
    kept = {name: value for name, value in body.items() if name not in REFUSED_BY_REASONING}
    limit = {"max_completion_tokens": body["max_tokens"]} if body.get("max_tokens") is not None else {}
    return {**limit, **kept, "model": model, "reasoning_effort": effort}


def with_signals(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a call whose answer is to be checked: whole, and with log-probabilities.

    Those that the caller forbade (`"logprobs": false`) are not asked for.
    """
    asked = {name: value for name, value in body.items() if name not in ("stream", "stream_options")}
    if asked.get("logprobs") is None:
        asked |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
    return asked


def without_signals(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body without what asks for log-probabilities, for models that refuse it."""
    left_out = ("stream", "stream_options", "logprobs", "top_logprobs")
    return {name: value for name, value in body.items() if name not in left_out}


def repeated(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the body to ask another model the same with, whole, and kept nowhere; None for several choices."""
    if body.get("n") not in (None, 1):
        return None
    asked = {name: value for name, value in body.items() if name not in ("stream", "stream_options")}
    return asked | ({"store": False} if asked.get("store") else {})


def answer_item(completion: Any, latency_ms: float | None = None, self_check: float | None = None) -> AnswerItem:
    """Return what the second look is told of a completion: its first choice, and the usage.

    Args:
        completion: the decoded JSON of a chat completion.
        latency_ms: that it took.
        self_check: as `self_check_of` has it; None where none was made.
    """
    choice = first_choice(completion)
    message = _mapping(choice.get("message"))
    text, refusal = message.get("content"), message.get("refusal")
    calls = message.get("tool_calls")
    n_calls = len(calls) if isinstance(calls, list) else 0
    n_calls += isinstance(message.get("function_call"), dict)
    tokens, others = _logprobs(choice)
    usage = _mapping(_mapping(completion).get("usage"))
    reason = choice.get("finish_reason")
    return AnswerItem(
        text=text if isinstance(text, str) else refusal if isinstance(refusal, str) else "",
        tool_calls=n_calls,
        is_refusal=isinstance(refusal, str) and bool(refusal),
        finish_reason=reason if isinstance(reason, str) else "",
        token_logprobs=tokens,
        alternative_logprobs=others,
        self_check=self_check,
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        latency_ms=latency_ms,
    )


def first_choice(completion: Any) -> Mapping[str, Any]:
    """Return the first choice of a completion; empty where there is none."""
    choices = _mapping(completion).get("choices")
    return _mapping(choices[0]) if isinstance(choices, list) and choices else {}


def self_check_body(body: Mapping[str, Any], completion: Any) -> dict[str, Any]:
    """Return the body of the call that asks the same model whether its answer is right: one token, its probability."""
    text = answer_item(completion).text
    messages = body.get("messages")
    return {
        "messages": [
            *(messages if isinstance(messages, list) else []),
            {"role": "assistant", "content": text},
            {"role": "user", "content": SELF_CHECK_QUESTION},
        ],
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 10,
    }


def self_check_of(completion: Any) -> float | None:
    """Return the log-probability of yes among yes and no in the answer to `self_check_body`; None where neither is."""
    content = _mapping(first_choice(completion).get("logprobs")).get("content")
    if not (isinstance(content, list) and content):
        return None
    yes = no = 0.0
    tops = _mapping(content[0]).get("top_logprobs")
    for one in tops if isinstance(tops, list) and tops else [content[0]]:
        token, logprob = _mapping(one).get("token"), _number(_mapping(one).get("logprob"))
        if not isinstance(token, str) or logprob is None or logprob > 0.0:
            continue
        word = token.strip().casefold()
        yes += math.exp(logprob) * (word in YES)
        no += math.exp(logprob) * (word in NO)
    return math.log(max(yes, 1e-40) / (yes + no)) if yes + no > 0.0 else None


def without_logprobs(completion: Any) -> Any:
    """Return a completion without log-probabilities that its caller did not ask for."""
    choices = _mapping(completion).get("choices")
    if not isinstance(choices, list):
        return completion
    kept = [{**choice, "logprobs": None} if isinstance(choice, dict) else choice for choice in choices]
    return {**completion, "choices": kept}


def summed_usage(*usages: Any) -> dict[str, Any] | None:
    """Return the usage of several calls as one, numbers added at every depth; None where none has any."""
    total: dict[str, Any] = {}
    for usage in usages:
        _add(total, _mapping(usage))
    return total or None


def _add(total: dict[str, Any], usage: Mapping[str, Any]) -> None:
    for name, value in usage.items():
        if isinstance(value, Mapping):
            inner = total.setdefault(name, {})
            if isinstance(inner, dict):
                _add(inner, value)
        elif _number(value) is not None and _number(total.get(name, 0)) is not None:
            total[name] = total.get(name, 0) + value


def _logprobs(choice: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """Return each token's log-probability, and that of the best other token; empty where one of them lacks."""
    logprobs = _mapping(choice.get("logprobs"))
    content = logprobs.get("content") or logprobs.get("refusal")
    return token_logprobs(content) if isinstance(content, list) else ([], [])


def token_logprobs(content: list[Any]) -> tuple[list[float], list[float]]:
    """Return each token's log-probability, and that of the best other token; empty where one of them lacks."""
    tokens = [_number(_mapping(one).get("logprob")) for one in content]
    known = [value for value in tokens if value is not None]
    if len(known) != len(content):
        return [], []
    others = [_best_other(_mapping(one)) for one in content]
    found = [value for value in others if value is not None]
    return known, found if len(found) == len(content) else []


def _best_other(token: Mapping[str, Any]) -> float | None:
    tops = token.get("top_logprobs")
    values = [
        _number(_mapping(one).get("logprob"))
        for one in (tops if isinstance(tops, list) else [])
        if _mapping(one).get("token") != token.get("token")
    ]
    return max((value for value in values if value is not None), default=None)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40 else None
