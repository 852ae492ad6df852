"""The Responses API as JSON: what to ask for signals, and what a response says of itself.

The counterpart of `turnout.serving.gateways.completions`; as there, nothing raises on what an upstream may send.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from turnout.serving.gateways.completions import REFUSED_BY_REASONING, TOP_LOGPROBS, token_logprobs
from turnout.serving.wire.asking_check import AnswerItem

LOGPROBS = "message.output_text.logprobs"
OWN_TOOLS = frozenset({"function", "custom"})
"""Tools that the caller runs, not the vendor."""
FAILED, PENDING = ("failed", "cancelled"), ("queued", "in_progress")
REASONS = {"max_output_tokens": "length", "content_filter": "content_filter"}
"""Why a response is incomplete, in the words of chat completions, which the second look was trained on."""


def at_rung(body: Mapping[str, Any], model: str, effort: str = "") -> dict[str, Any]:
    """Return the body of a call for a rung; as `completions.at_rung`, in the words of this API."""
    if not effort:
        return {**body, "model": model}
    kept = {name: value for name, value in body.items() if name not in REFUSED_BY_REASONING}
    include = body.get("include")
    if isinstance(include, list) and LOGPROBS in include:
        kept["include"] = [one for one in include if one != LOGPROBS]
    reasoning = body.get("reasoning")
    own = reasoning if isinstance(reasoning, dict) else {}
    return {**kept, "model": model, "reasoning": {**own, "effort": effort}}


def wants_logprobs(body: Mapping[str, Any]) -> bool:
    """Whether the caller asks for log-probabilities."""
    include = body.get("include")
    return isinstance(include, list) and LOGPROBS in include


def is_checkable(body: Mapping[str, Any]) -> bool:
    """Whether the answer comes at once and stands alone: no stream, no state at the vendor that a try would add to."""
    names = ("stream", "background", "conversation", "previous_response_id")
    return not any(body.get(name) for name in names)


def with_signals(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a call whose answer brings log-probabilities."""
    include = body.get("include")
    asked = [*(include if isinstance(include, list) else []), LOGPROBS]
    return {**body, "include": list(dict.fromkeys(asked)), "top_logprobs": TOP_LOGPROBS}


def without_signals(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body as the caller sent it."""
    return dict(body)


def repeated(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the body to ask another model the same with, whole, and kept nowhere.

    None where it has state at the vendor, or tools that the vendor runs itself and that may change something.
    """
    whole = {name: value for name, value in body.items() if name not in ("stream", "stream_options")}
    tools = body.get("tools") or []
    kinds = [_mapping(tool).get("type") for tool in tools] if isinstance(tools, list) else [None]
    if not is_checkable(whole) or not OWN_TOOLS.issuperset(map(str, kinds)):
        return None
    return whole | {"store": False}


def is_answer(response: Any) -> bool:
    """Whether there is something in it that could be shown."""
    return _mapping(response).get("status") not in FAILED and any(True for _ in _items(response))


def is_pending(response: Any) -> bool:
    """Whether the vendor still works on it, as on a call with `background`: its answer is fetched later."""
    return _mapping(response).get("status") in PENDING


def answer_item(response: Any, latency_ms: float | None = None, self_check: float | None = None) -> AnswerItem:
    """Return what the second look is told of a response; arguments as for chat completions."""
    texts, refusals, tokens = [], [], []
    n_calls = 0
    for item in _items(response):
        kind = item.get("type")
        n_calls += isinstance(kind, str) and kind.endswith("_call")
        for part in _parts(item):
            if isinstance(part.get("text"), str):
                texts.append(part["text"])
                logprobs = part.get("logprobs")
                tokens += logprobs if isinstance(logprobs, list) else []
            elif isinstance(part.get("refusal"), str):
                refusals.append(part["refusal"])
    known, others = token_logprobs(tokens)
    usage = _mapping(_mapping(response).get("usage"))
    return AnswerItem(
        text="".join(texts or refusals),
        tool_calls=n_calls,
        is_refusal=bool(refusals),
        finish_reason=_finish_reason(response, n_calls),
        token_logprobs=known,
        alternative_logprobs=others,
        self_check=self_check,
        prompt_tokens=_count(usage.get("input_tokens")),
        completion_tokens=_count(usage.get("output_tokens")),
        latency_ms=latency_ms,
    )


def without_logprobs(response: Any) -> Any:
    """Return a response without log-probabilities that its caller did not ask for."""
    output = _mapping(response).get("output")
    if not isinstance(output, list):
        return response
    return {**response, "output": [_bare(item) for item in output]}


def _bare(item: Any) -> Any:
    content = _mapping(item).get("content")
    if not isinstance(content, list):
        return item
    parts = [{**part, "logprobs": []} if isinstance(part, dict) and "logprobs" in part else part for part in content]
    return {**item, "content": parts}


def _finish_reason(response: Any, n_calls: int) -> str:
    whole = _mapping(response)
    if whole.get("status") == "completed":
        return "tool_calls" if n_calls else "stop"
    reason = _mapping(whole.get("incomplete_details")).get("reason")
    return REASONS.get(reason, "") if isinstance(reason, str) else ""


def _items(response: Any) -> Iterator[Mapping[str, Any]]:
    output = _mapping(response).get("output")
    yield from (item for item in (output if isinstance(output, list) else []) if isinstance(item, Mapping))


def _parts(item: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    content = item.get("content") if item.get("type") == "message" else None
    yield from (part for part in (content if isinstance(content, list) else []) if isinstance(part, Mapping))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40 else None
