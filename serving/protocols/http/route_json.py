"""`POST /v1/route` and `/v1/check`: JSON twins of Route and Check, in proto3's mapping with the proto's field names.

Body in, bytes of the request out; the response in, body out. One thing is easier than the mapping has it:
`openai_body` and `anthropic_body` may be the body itself, instead of its bytes in base64.
"""

from __future__ import annotations

from typing import Any

import msgspec
from google.protobuf import json_format

from turnout.serving.errors import InvalidRequest
from turnout.serving.pb import router_pb2 as pb

BODY_NAMES = {
    "openai_body": "openai_body",
    "openaiBody": "openai_body",
    "anthropic_body": "anthropic_body",
    "anthropicBody": "anthropic_body",
}

_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def read_route(body: bytes) -> bytes:
    """Return the bytes of the `RouteRequest` that a JSON body stands for.

    Raises:
        InvalidRequest: not a JSON object, or a field that the request has not, or of another type. The message
            names the field and never quotes a value.
    """
    return bytes(_route(_object(body)).SerializeToString())


def read_check(body: bytes) -> bytes:
    """Return the bytes of the `CheckRequest` that a JSON body stands for; raises as `read_route` does."""
    fields = _object(body)
    asked = fields.pop("request", None)
    request = _message(pb.CheckRequest, fields)
    if asked is not None:
        if request.WhichOneof("asked"):
            raise InvalidRequest("expected exactly one of request, request_id")
        request.request.CopyFrom(_route(_object(bytes(asked))))
    return bytes(request.SerializeToString())


def _object(body: bytes) -> dict[str, msgspec.Raw]:
    try:
        return _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise InvalidRequest("the body is not a JSON object in UTF-8") from None


def _route(fields: dict[str, msgspec.Raw]) -> Any:
    given = [(own, fields.pop(name)) for name, own in BODY_NAMES.items() if bytes(fields.get(name, b""))[:1] == b"{"]
    request = _message(pb.RouteRequest, fields)
    if given and (len(given) > 1 or request.WhichOneof("content")):
        raise InvalidRequest("expected exactly one of text, messages, openai_body, anthropic_body")
    for name, raw in given:
        setattr(request, name, bytes(raw))
    return request


def write_message(response: Any) -> dict[str, Any]:
    """Return the JSON of a response; 64-bit integers are strings, as proto3's mapping has it."""
    named: dict[str, Any] = json_format.MessageToDict(
        response, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return named


def _message(kind: Any, fields: dict[str, msgspec.Raw]) -> Any:
    request = _parsed(kind, fields)
    if request is not None:
        return request
    described = kind.DESCRIPTOR
    unknown = fields.keys() - {name for field in described.fields for name in (field.name, field.json_name)}
    if unknown:
        known = ", ".join(field.name for field in described.fields)
        raise InvalidRequest(f"{len(unknown)} fields are unknown; known are {known}")
    for choice in described.oneofs:
        given = [field.name for field in choice.fields if fields.keys() & {field.name, field.json_name}]
        if len(given) > 1:
            raise InvalidRequest(f"{', '.join(given)}: expected at most one of them")
    wrong = sorted(name for name in fields if _parsed(kind, {name: fields[name]}) is None)
    raise InvalidRequest(f"{', '.join(wrong) or 'the fields'}: not what a {described.full_name} holds there")


def _parsed(kind: Any, fields: dict[str, msgspec.Raw]) -> Any:
    """Return the message of the fields; None when the mapping refuses them, with a text that may quote them."""
    try:
        return json_format.Parse(msgspec.json.encode(fields), kind())
    except (json_format.ParseError, ValueError, RecursionError):  # a lone surrogate is a UnicodeEncodeError
        return None
