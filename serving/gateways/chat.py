"""From the arguments of a call, as gateways and SDKs hold them, to the body that is sent to the router.

What does not matter to the route stays here: pictures, files and tools go as a mark without their bytes, and
parameters, metadata and keys do not go at all. The shape may be any that `turnout.serving.router.bodies` reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from turnout.serving.router.bodies import FIELDS, call_body, read_body


def routing_body(call: Mapping[str, Any]) -> bytes:
    """Return the body that decides on a call: texts, marks for all other content, tools, output asked for.

    Raises:
        TypeError, ValueError: something in it is no JSON, or it has none of the shapes.
        RecursionError: it is nested too deep.
    """
    told = {name: call[name] for name in FIELDS if call.get(name) is not None}
    return msgspec.json.encode(call_body(read_body(msgspec.json.encode(told, enc_hook=_plain))))


def _plain(value: Any) -> Any:
    """Return an object of an SDK as what JSON can say; raises `TypeError` for others."""
    if isinstance(value, type):  # a pydantic model as response format, which the OpenAI SDK turns into a schema
        return {"type": "json_schema"}
    if isinstance(value, Mapping):
        return dict(value)
    if callable(dump := getattr(value, "model_dump", None)):
        return dump()
    if hasattr(value, "__iter__"):
        return list(value)
    if hasattr(value, "__dict__"):
        return vars(value)
    raise TypeError(f"expected JSON, got {type(value).__name__}")
