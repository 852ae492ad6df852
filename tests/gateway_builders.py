"""Builders of rows as gateways and observability tools write them, with the field names of their own schemas."""

from __future__ import annotations

import json
from typing import Any

from tests.log_builders import user

STARTED = "2026-01-01T00:00:00Z"
STARTED_S = 1767225600.0


def completion(text: str | None = "Dust.", model: str = "gpt-4o-2024-08-06", **message: Any) -> dict[str, Any]:
    """Return the body of a chat.completions response."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": int(STARTED_S),
        "model": model,
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": "stop"}
        ],
        "usage": {
            "prompt_tokens": 7,
            "completion_tokens": 2,
            "total_tokens": 9,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    }


def chat_request(prompt: str = "Why?", model: str = "gpt-4o", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [user(prompt)], "temperature": 0, **fields}


def openai_pair(prompt: str = "Why?", text: str = "Dust.", model: str = "gpt-4o", **fields: Any) -> dict[str, Any]:
    return {"request": chat_request(prompt, model), "response": completion(text, model), **fields}


def batch_input(custom_id: str, prompt: str = "Why?", model: str = "gpt-4o", **fields: Any) -> dict[str, Any]:
    row = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions"}
    return row | {"body": chat_request(prompt, model)} | fields


def batch_output(custom_id: str, text: str = "Dust.", model: str = "gpt-4o-2024-08-06", **fields: Any):
    response = {"status_code": 200, "request_id": "req-1", "body": completion(text, model)}
    return {"id": "batch_req_1", "custom_id": custom_id, "response": response, "error": None} | fields


def spend_log(prompt: str = "Why?", text: str = "Dust.", model: str = "gpt-4o", **fields: Any) -> dict[str, Any]:
    """Return a row of LiteLLM_SpendLogs as a JSON export has it: structures as JSON text, messages empty."""
    return {
        "request_id": "chatcmpl-1",
        "call_type": "acompletion",
        "api_key": "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b",
        "spend": 0.0001,
        "total_tokens": 9,
        "prompt_tokens": 7,
        "completion_tokens": 2,
        "startTime": STARTED,
        "endTime": STARTED,
        "model": f"openai/{model}",
        "model_id": "a1",
        "model_group": model,
        "custom_llm_provider": "openai",
        "metadata": json.dumps({"status": "success"}),
        "cache_hit": "False",
        "end_user": "u1",
        "messages": "{}",
        "response": json.dumps(completion(text, f"{model}-2024-08-06")),
        "proxy_server_request": json.dumps(chat_request(prompt, model)),
        "session_id": "s1",
        "status": "success",
    } | fields


def logging_payload(prompt: str = "Why?", text: str = "Dust.", model: str = "gpt-4o", **fields: Any) -> dict[str, Any]:
    """Return LiteLLM's StandardLoggingPayload."""
    return {
        "id": "chatcmpl-1",
        "trace_id": "t1",
        "call_type": "acompletion",
        "stream": False,
        "response_cost": 0.0001,
        "status": "success",
        "total_tokens": 9,
        "prompt_tokens": 7,
        "completion_tokens": 2,
        "startTime": STARTED_S,
        "endTime": STARTED_S + 1,
        "model": model,
        "model_group": model,
        "metadata": {"user_api_key_hash": "88dc28d0"},
        "end_user": "u1",
        "messages": [user(prompt)],
        "response": completion(text, f"{model}-2024-08-06"),
        "error_str": None,
        "model_parameters": {"temperature": 0},
        "hidden_params": {},
    } | fields


def observation(prompt: str = "Why?", text: str = "Dust.", model: str = "gpt-4o", **fields: Any) -> dict[str, Any]:
    """Return a Langfuse observation as the API gives it."""
    return {
        "id": "o1",
        "traceId": "t1",
        "type": "GENERATION",
        "name": "chat",
        "startTime": STARTED,
        "endTime": STARTED,
        "level": "DEFAULT",
        "model": model,
        "modelParameters": {"temperature": 0},
        "input": [user(prompt)],
        "output": {"role": "assistant", "content": text},
        "usageDetails": {"input": 7, "output": 2, "total": 9},
        "costDetails": {"total": 0.0001},
        "metadata": {},
    } | fields


def blob_observation(prompt: str = "Why?", text: str = "Dust.", model: str = "gpt-4o", **fields: Any):
    """Return a Langfuse observation as the export to blob storage writes it."""
    return {
        "id": "o1",
        "trace_id": "t1",
        "type": "GENERATION",
        "start_time": "2026-01-01 00:00:00.000000",
        "level": "DEFAULT",
        "input": json.dumps([user(prompt)]),
        "output": text,
        "provided_model_name": model,
        "model_parameters": "{}",
        "usage_details": {"input": 7, "output": 2, "total": 9},
        "session_id": "s1",
        "tool_definitions": {},
    } | fields


def langfuse_score(observation_id: str, value: float, name: str = "correct", **fields: Any) -> dict[str, Any]:
    row = {"id": "c1", "traceId": "t1", "observationId": observation_id, "name": name, "value": value}
    return row | {"dataType": "NUMERIC", "source": "API"} | fields


def attribute_value(value: Any) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
        case list():
            return {"arrayValue": {"values": [attribute_value(one) for one in value]}}
        case dict():
            return {"kvlistValue": {"values": attribute_list(value)}}
        case _:
            return {"stringValue": value}


def attribute_list(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": attribute_value(value)} for key, value in attributes.items()]


def span(attributes: dict[str, Any], events: list[dict[str, Any]] | None = None, **fields: Any) -> dict[str, Any]:
    return {
        "traceId": "5b8efff798038103d269b633813fc60c",
        "spanId": "eee19b7ec3c1b174",
        "name": "chat gpt-4o",
        "kind": 3,
        "startTimeUnixNano": str(int(STARTED_S * 1e9)),
        "attributes": attribute_list(attributes),
        "events": events or [],
        "status": {},
    } | fields


def event(name: str, attributes: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "timeUnixNano": "1", "attributes": attribute_list(attributes)}


def parts(role: str, *found: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"role": role, "parts": list(found), **fields}


def text_part(text: str) -> dict[str, str]:
    return {"type": "text", "content": text}


def chat_attributes(prompt: str = "Why?", text: str = "Dust.", model: str = "gpt-4o", **fields: Any):
    """Return the attributes of a GenAI chat span, messages as JSON text."""
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": model,
        "gen_ai.response.model": f"{model}-2024-08-06",
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 2,
        "gen_ai.input.messages": json.dumps([parts("user", text_part(prompt))]),
        "gen_ai.output.messages": json.dumps([parts("assistant", text_part(text), finish_reason="stop")]),
    } | fields


def otlp(*spans: dict[str, Any]) -> dict[str, Any]:
    """Return one line of an OTLP JSON export."""
    resource = {"attributes": attribute_list({"service.name": "gateway"})}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": {"name": "s"}, "spans": list(spans)}]}]}


def routerbench_row(prompt: Any = "Why?", **scores: float) -> dict[str, Any]:
    """Return a row of RouterBench's wide form; keyword arguments are model names with `_` for `-`."""
    row: dict[str, Any] = {"sample_id": "arc.1", "prompt": prompt, "eval_name": "arc"}
    for model, score in scores.items():
        name = model.replace("_", "-")
        row |= {name: score, f"{name}|model_response": f"{name} says", f"{name}|total_cost": 0.001}
    return row | {"oracle_model_to_route_to": "no_model_correct"}
