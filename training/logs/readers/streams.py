"""Streams: an answer that a log holds as the chunks in which it was sent, put together again.

Comes in: what stands where a log has the answer: a completion, the text of server-sent events, a list of chunks or
events, or a single chunk. Goes out: a completion, in the shape that the vendor gives without streaming.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from turnout.training.logs.quarantine import Reason, RowRefused

_EVENT_MARKS = ("data:", "event:", ": ", "id:", "retry:")
_DONE = "[DONE]"
_HOLDERS = ("chunks", "events", "deltas", "stream", "streamed_data", "stream_chunks", "streaming_response")
"""Fields in which loggers keep the chunks beside, or instead of, the completion."""


def completion_body(value: Any) -> Any:
    """Return the completion that a decoded value holds; what is no stream comes back as it is.

    Raises:
        RowRefused: the stream ended before the answer did.
    """
    if isinstance(value, str):
        return _of_text(value)
    if isinstance(value, list):
        return _of_list(value)
    if not isinstance(value, dict):
        return value
    if _is_chunk(value):
        return _assembled([value])
    if not value.keys() & {"choices", "output", "content"}:
        for name in _HOLDERS:
            if isinstance(value.get(name), list | str) and value[name]:
                return completion_body(value[name])
    return value


def _of_list(value: list[Any]) -> Any:
    if any(_is_chunk(one) for one in value):
        return _assembled(value)
    if value and all(isinstance(one, str) and one.strip() for one in value):
        text = "\n\n".join(value)
        return _assembled(_events(text)) if _is_event_text(text) else value
    return value


def _of_text(value: str) -> Any:
    if _is_event_text(value):
        return _assembled(_events(value))
    lines = value.split("\n") if value.lstrip().startswith("{") and "\n" in value.strip() else []
    chunks = [_decoded(line) for line in lines if line.strip()]
    return _assembled(chunks) if chunks and all(_is_chunk(one) for one in chunks) else value


def _is_event_text(value: str) -> bool:
    start = value.lstrip()
    return start.startswith(_EVENT_MARKS) and "data:" in start


def _events(text: str) -> list[Any]:
    payloads = (line[len("data:") :].strip() for line in text.splitlines() if line.startswith("data:"))
    return [event for one in payloads if one and one != _DONE and (event := _decoded(one)) is not None]


def _decoded(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return None


def _is_chunk(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    choices = value.get("choices")
    if isinstance(choices, list) and any(isinstance(one, dict) and one.get("delta") is not None for one in choices):
        return not any(isinstance(one, dict) and one.get("message") for one in choices)
    kind = value.get("type")
    return value.get("object") == "chat.completion.chunk" or (
        isinstance(kind, str) and kind.startswith(("response.", "message_", "content_block_"))
    )


def _assembled(events: Sequence[Any]) -> dict[str, Any]:
    found = [event for event in events if isinstance(event, dict)]
    kinds = {str(event.get("type")) for event in found}
    if any(kind.startswith("response.") for kind in kinds):
        return _of_responses(found)
    if kinds & {"message_start", "content_block_delta", "content_block_start"}:
        return _of_blocks(found)
    if not found or any(event.get("error") for event in found):
        raise RowRefused(Reason.FAILED)
    return _of_chunks(found)


def _of_chunks(chunks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Put together chunks of chat.completions; of several choices the first, as for whole answers."""
    texts, refusals, calls, logprobs = list[str](), list[str](), dict[int, dict[str, Any]](), list[Any]()
    whole: dict[str, Any] = {}
    finish = None
    for chunk in chunks:
        whole |= {name: chunk[name] for name in ("id", "model", "created", "usage") if chunk.get(name) is not None}
        for choice in chunk.get("choices") or ():
            if not isinstance(choice, dict) or choice.get("index", 0) != 0:
                continue
            delta = choice.get("delta") or {}
            texts.append(delta.get("content") or choice.get("text") or "")
            refusals.append(delta.get("refusal") or "")
            _add_calls(calls, delta.get("tool_calls") or ())
            logprobs += (choice.get("logprobs") or {}).get("content") or ()
            finish = choice.get("finish_reason") or finish
    message = {"content": "".join(texts) or None, "refusal": "".join(refusals) or None}
    if calls:
        message["tool_calls"] = list(calls.values())  # type: ignore[assignment]
    told = {"logprobs": {"content": logprobs}} if logprobs else {}
    return whole | {"choices": [{"message": message, "finish_reason": finish} | told]}


def _add_calls(calls: dict[int, dict[str, Any]], deltas: Iterable[dict[str, Any]]) -> None:
    for delta in deltas:
        call = calls.setdefault(delta.get("index", len(calls)), {"function": {"name": "", "arguments": ""}})
        function = delta.get("function") or {}
        call["function"]["name"] += function.get("name") or ""
        call["function"]["arguments"] += function.get("arguments") or ""


def _of_responses(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the response that the last event holds whole, else what the deltas say."""
    for event in reversed(events):
        if event.get("type") in {"response.completed", "response.incomplete"} and event.get("response"):
            return dict(event["response"])
        if event.get("type") in {"response.failed", "error"}:
            raise RowRefused(Reason.FAILED)
    text = "".join(str(one.get("delta", "")) for one in events if one.get("type") == "response.output_text.delta")
    start: dict[str, Any] = next((one["response"] for one in events if isinstance(one.get("response"), dict)), {})
    return dict(start) | {"output": [{"type": "message", "content": [{"type": "output_text", "text": text}]}]}


def _of_blocks(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Put together the events of Anthropic's Messages."""
    whole: dict[str, Any] = {}
    blocks, arguments = dict[int, dict[str, Any]](), dict[int, str]()
    for event in events:
        index, delta = event.get("index", 0), event.get("delta") or {}
        match event.get("type"):
            case "message_start":
                whole |= event.get("message") or {}
            case "content_block_start":
                blocks[index] = dict(event.get("content_block") or {})
            case "content_block_delta" if "partial_json" in delta:
                arguments[index] = arguments.get(index, "") + delta["partial_json"]
            case "content_block_delta" if "text" in delta:
                block = blocks.setdefault(index, {"type": "text", "text": ""})
                block["text"] = (block.get("text") or "") + delta["text"]
            case "message_delta":
                whole["usage"] = (whole.get("usage") or {}) | (event.get("usage") or {})
                whole["stop_reason"] = delta.get("stop_reason")
            case "error":
                raise RowRefused(Reason.FAILED)
            case _:
                pass
    for index, text in arguments.items():
        blocks.setdefault(index, {"type": "tool_use"})["input"] = text or "{}"
    return whole | {"content": [blocks[index] for index in sorted(blocks)]}
