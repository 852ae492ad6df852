"""From the arguments of a chat call, as gateways and SDKs hold them, to the body that is sent to the router.

What does not matter to the route stays here: pictures go as a mark without their bytes, and parameters,
metadata and keys do not go at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from turnout.serving.router.prompt import IMAGE_PARTS


def routing_body(call: Mapping[str, Any]) -> bytes:
    """Return the chat.completions body that decides on a call: messages, tools, response format.

    Raises:
        TypeError, ValueError: something in it is no JSON.
    """
    body = {
        "messages": [_slim_message(message) for message in call.get("messages") or ()],
        "tools": [_slim_tool(tool) for tool in call.get("tools") or ()] or None,
        "response_format": _slim_format(call.get("response_format")),
    }
    return msgspec.json.encode({name: value for name, value in body.items() if value is not None})


def _slim_message(message: Any) -> dict[str, Any]:
    content = _field(message, "content")
    if isinstance(content, Sequence) and not isinstance(content, str):
        content = [_slim_part(part) for part in content]
    return {"role": _field(message, "role") or "user", "content": content}


def _slim_part(part: Any) -> dict[str, Any]:
    kind = _field(part, "type") or "text"
    return {"type": kind} if kind in IMAGE_PARTS else {"type": kind, "text": _field(part, "text")}


def _slim_tool(tool: Any) -> dict[str, Any]:
    return {"type": _field(tool, "type") or "function"}  # that there is one is all that counts


def _slim_format(wanted: Any) -> dict[str, str] | None:
    if wanted is None:
        return None
    if isinstance(wanted, type):  # a pydantic model, which the OpenAI SDK turns into a schema
        return {"type": "json_schema"}
    return {"type": str(_field(wanted, "type") or "text")}


def _field(value: Any, name: str) -> Any:
    """Return a field of a mapping, or of an object of an SDK."""
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
