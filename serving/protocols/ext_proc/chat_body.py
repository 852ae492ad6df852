"""The body of an HTTP request as far as a gateway needs it: is it a chat, for which model; the same with another model.

Raw bytes in, `AskedModel` or other bytes out. What the prompt is, `serving.router.prompt` reads from the same bytes.
"""

from __future__ import annotations

import msgspec

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class AskedModel(msgspec.Struct, frozen=True):
    """The model that a chat.completions body asks for; None where it names none."""

    messages: msgspec.Raw
    model: str | None = None


_decode = msgspec.json.Decoder(AskedModel).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def read_asked_model(body: bytes) -> AskedModel | None:
    """Return what the body asks for; None when it is not JSON, or has no messages."""
    try:
        return _decode(body)
    except _UNREADABLE:
        return None


def with_model(body: bytes, model: str) -> bytes:
    """Return a body that `read_asked_model` could read with another model in it.

    All other fields keep their order and their very bytes; white space between them goes. A field that
    comes twice is there once, with its last value, as most readers of JSON take it.
    """
    fields = _decode_fields(body)
    fields["model"] = msgspec.Raw(msgspec.json.encode(model))
    return msgspec.json.encode(fields)
