"""Instrumentations with attribute names of their own: OpenInference (Phoenix, Arize) and the Vercel AI SDK.

Comes in: the attributes of a span under dotted names. Goes out: the request and the answer in our shape, or None
where the span is of neither. The semantic conventions of OpenTelemetry itself are `otel_messages`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from turnout.training.logs.quarantine import Reason, RowRefused
from turnout.training.logs.readers.completion import completion_answer, read_completion
from turnout.training.logs.readers.otel_messages import Attributes

AI_SDK_CALLS = (".doGenerate", ".doStream")
"""The inner span of a call holds what was sent; its outer one (`ai.generateText`) would count the call twice."""

_IMAGE = {"type": "image"}


@dataclass(frozen=True)
class SpanFound:
    """What a span says.

    Attributes:
        request: body of a call; None where it was not captured.
        answer: entry of `responses`; None where there is none.
        models: names, the surest first.
    """

    request: dict[str, Any] | None
    answer: dict[str, Any] | None
    models: tuple[str | None, ...]


def read_instrumented(attributes: Attributes) -> SpanFound | None:
    """Return what a span of either instrumentation says; None of other spans.

    Raises:
        RowRefused: the span is of one of them, and no call of a model.
    """
    if "openinference.span.kind" in attributes or any(name.startswith("llm.input_messages") for name in attributes):
        if attributes.get("openinference.span.kind", "LLM") != "LLM":
            raise RowRefused(Reason.NOT_CHAT)
        return _openinference(attributes)
    if "ai.operationId" in attributes or any(name.startswith("ai.prompt") for name in attributes):
        operation = str(attributes.get("ai.operationId") or attributes.get("operation.name") or "").partition(" ")[0]
        if operation and not operation.endswith(AI_SDK_CALLS):
            raise RowRefused(Reason.NOT_CHAT)
        return _ai_sdk(attributes)
    return None


def flattened(value: Any, name: str = "") -> dict[str, Any]:
    """Return nested attributes under dotted names, elements of lists of objects by their number."""
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        inner = ((str(number), one) for number, one in enumerate(value))  # type: ignore[assignment]
    else:
        return {name: value}
    found: dict[str, Any] = {}
    for key, one in inner:
        found |= flattened(one, f"{name}.{key}" if name else str(key))
    return found


def _decoded(value: Any) -> Any:
    try:
        return msgspec.json.decode(value) if isinstance(value, str) and value else value
    except (msgspec.DecodeError, RecursionError):
        return value


def _openinference(attributes: Attributes) -> SpanFound:
    flat = flattened(dict(attributes))
    asked = _numbered_messages(flat, "llm.input_messages")
    parameters = _decoded(flat.get("llm.invocation_parameters"))
    parameters = parameters if isinstance(parameters, dict) else {}
    body = _decoded(flat.get("input.value"))
    if asked:
        tools = sum(name.startswith("llm.tools.") and name.endswith("json_schema") for name in flat)
        offered = parameters.get("tools") or [{"type": "function"}] * tools or None
        request = {"messages": asked, "tools": offered, "response_format": parameters.get("response_format")}
    else:
        request = body if isinstance(body, dict) and body.keys() & {"messages", "input", "prompt"} else None  # type: ignore[assignment]
    return SpanFound(request, _openinference_answer(flat), (flat.get("llm.model_name"), parameters.get("model")))


def _numbered_messages(flat: dict[str, Any], prefix: str) -> list[dict[str, Any]]:
    messages = list[dict[str, Any]]()
    while f"{prefix}.{len(messages)}.message.role" in flat:
        start = f"{prefix}.{len(messages)}.message"
        content = flat.get(f"{start}.content")
        parts = _numbered_parts(flat, f"{start}.contents") if content is None else content
        messages.append({"role": flat[f"{start}.role"], "content": parts})
    return messages


def _numbered_parts(flat: dict[str, Any], prefix: str) -> list[dict[str, Any]] | None:
    parts = list[dict[str, Any]]()
    while (kind := flat.get(f"{prefix}.{len(parts)}.message_content.type")) is not None:
        text = flat.get(f"{prefix}.{len(parts)}.message_content.text")
        parts.append({"type": "text", "text": text} if kind == "text" else {"type": kind})
    return parts or None


def _openinference_answer(flat: dict[str, Any]) -> dict[str, Any] | None:
    replies = _numbered_messages(flat, "llm.output_messages")
    body = _decoded(flat.get("output.value"))
    whole = None
    if isinstance(body, dict) and body.keys() & {"choices", "output"}:
        whole = completion_answer(read_completion(body))
    if not replies:
        return whole
    content = replies[0]["content"]
    if isinstance(content, list):
        content = "\n".join(part.get("text") or "" for part in content)
    answer: dict[str, Any] = {"content": content, "logprobs": (whole or {}).get("logprobs")}
    calls, start = list[dict[str, Any]](), "llm.output_messages.0.message.tool_calls"
    while (name := flat.get(f"{start}.{len(calls)}.tool_call.function.name")) is not None:
        arguments = flat.get(f"{start}.{len(calls)}.tool_call.function.arguments", "")
        calls.append({"function": {"name": name, "arguments": arguments}})
    answer["usage"] = {
        "prompt_tokens": flat.get("llm.token_count.prompt"),
        "completion_tokens": flat.get("llm.token_count.completion"),
    }
    return answer | ({"tool_calls": calls} if calls else {})


def _ai_sdk(attributes: Attributes) -> SpanFound:
    asked = _decoded(attributes.get("ai.prompt.messages"))
    if not isinstance(asked, list):
        whole = _decoded(attributes.get("ai.prompt"))
        asked = whole.get("messages") if isinstance(whole, dict) else None
        if asked is None and isinstance(whole, dict) and isinstance(whole.get("prompt"), str):
            system = [{"role": "system", "content": whole["system"]}] if whole.get("system") else []
            asked = [*system, {"role": "user", "content": whole["prompt"]}]
    tools = attributes.get("ai.prompt.tools")
    request: dict[str, Any] | None = None
    if asked:
        offered = [{"type": "function"}] * len(tools) if isinstance(tools, list) else None
        request = {"messages": [_ai_sdk_message(one) for one in asked], "tools": offered}
        if "Object" in str(attributes.get("ai.operationId")):
            request["response_format"] = {"type": "json_object"}
    names = ("gen_ai.response.model", "ai.response.model", "ai.model.id", "gen_ai.request.model")
    return SpanFound(request, _ai_sdk_answer(attributes), tuple(attributes.get(name) for name in names))


def _ai_sdk_message(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message of the SDK, whose parts have names of their own, as one of chat.completions."""
    content = message.get("content")
    if not isinstance(content, list):
        return {"role": message.get("role"), "content": content}
    parts = list[dict[str, Any]]()
    for part in content:
        match part.get("type"):
            case "tool-result":
                parts.append({"type": "text", "text": _text(part.get("result", part.get("output")))})
            case "tool-call" | "reasoning":
                continue
            case "image":
                parts.append(_IMAGE)
            case _:
                parts.append(part)
    return {"role": message.get("role"), "content": parts}


def _ai_sdk_answer(attributes: Attributes) -> dict[str, Any] | None:
    names = ("ai.response.text", "ai.response.object", "ai.result.text", "ai.result.object")
    text = next((attributes[name] for name in names if attributes.get(name)), None)
    calls = _decoded(attributes.get("ai.response.toolCalls", attributes.get("ai.result.toolCalls")))
    if text is None and not calls:
        return None
    counts = {
        "prompt_tokens": attributes.get("gen_ai.usage.input_tokens", attributes.get("ai.usage.promptTokens")),
        "completion_tokens": attributes.get("gen_ai.usage.output_tokens", attributes.get("ai.usage.completionTokens")),
    }
    answer: dict[str, Any] = {"content": text, "usage": counts}
    if isinstance(calls, list) and calls:
        answer["tool_calls"] = [
            {"function": {"name": call.get("toolName", ""), "arguments": _text(call.get("args", call.get("input")))}}
            for call in calls
        ]
    return answer


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
