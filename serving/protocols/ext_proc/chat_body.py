"""The body of an HTTP request as far as a gateway needs it: for which model it is; the same with another model.

Raw bytes in, `AskedModel` or other bytes out. What the prompt is, `serving.router.bodies` reads from the same bytes.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from turnout.serving.gateways import completions, responses

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_AUTO = re.compile(rb'"model"\s*:\s*"auto"')


_NULL = msgspec.Raw(b"null")


class AskedModel(msgspec.Struct, frozen=True):
    """The model that a JSON object asks for, None where it names none, and whether it holds a conversation."""

    model: str | None = None
    messages: msgspec.Raw = _NULL
    input: msgspec.Raw = _NULL
    prompt: msgspec.Raw = _NULL
    contents: msgspec.Raw = _NULL
    previous_response_id: msgspec.Raw = _NULL

    @property
    def is_conversation(self) -> bool:
        """Whether it has one of the fields that hold one."""
        held = (self.messages, self.input, self.prompt, self.contents, self.previous_response_id)
        return any(bytes(one) != b"null" for one in held)


_decode = msgspec.json.Decoder(AskedModel).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def read_asked_model(body: bytes) -> AskedModel | None:
    """Return what the body asks for; None when it is no JSON object."""
    try:
        return _decode(body)
    except UNREADABLE:
        return None


def asks_for_auto(body: bytes) -> bool:
    """Whether a body that `read_asked_model` can't read asks for `auto`, as far as its letters say."""
    return _AUTO.search(body) is not None


def with_model(body: bytes, model: str, effort: str = "") -> bytes:
    """Return the body with another model in it, and where it has one its reasoning effort (`completions.at_rung`).

    All other fields keep their order and their very bytes; white space between them goes. A field that
    comes twice is there once, with its last value, as most readers of JSON take it. In a body that is no JSON
    object the letters of `"model": "auto"` are replaced.
    """
    try:
        fields: dict[str, Any] = _decode_fields(body)
    except UNREADABLE:
        return _AUTO.sub(lambda _: b'"model":' + msgspec.json.encode(model), body)
    if effort:
        fields = _at_effort(fields, model, effort)
    fields["model"] = msgspec.Raw(msgspec.json.encode(model))
    return msgspec.json.encode(fields)


def _at_effort(fields: dict[str, Any], model: str, effort: str) -> dict[str, Any]:
    """Return the fields of a call at an effort; what decides on their names is decoded, all others stay as they are."""
    read = {name: msgspec.json.decode(raw) if name in _READ_AT_EFFORT else raw for name, raw in fields.items()}
    if "input" in fields and "messages" not in fields:
        return responses.at_rung(read, model, effort)
    return completions.at_rung(read, model, effort)


_READ_AT_EFFORT = frozenset({"max_tokens", "include", "reasoning"})
