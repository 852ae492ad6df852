"""Envoy's messages: bytes to `ProcessingRequest`, `Verdict` to `ProcessingResponse`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.message import DecodeError

from turnout.serving.errors import InvalidRequest
from turnout.serving.pb import ext_proc_pb2 as ext
from turnout.serving.protocols.ext_proc.deciding import Told, Verdict

MODEL, CONFIDENCE, REASON, BUNDLE = (f"x-turnout-{name}" for name in ("model", "confidence", "reason", "bundle"))
OURS = (MODEL, CONFIDENCE, REASON, BUNDLE)
"""Headers that say what was decided: a caller's own must never be taken for ours."""

_TOLD = {
    "x-request-id": "request_id",
    "x-turnout-policy": "policy",
    "x-turnout-tenant": "tenant",
    "x-turnout-session": "session_id",
    "x-turnout-task": "task",
}
_MODES_ROUTED = frozenset({ext.NONE, ext.BUFFERED})


def read_message(raw: bytes) -> Any:
    """Return the `ProcessingRequest` in the bytes.

    Raises:
        InvalidRequest: undecodable, empty, or in a mode of the body in which Envoy ignores what is decided.
    """
    try:
        message = ext.ProcessingRequest.FromString(raw)
    except DecodeError:  # its text may quote the bytes
        raise InvalidRequest("not an envoy.service.ext_proc.v3.ProcessingRequest: undecodable") from None
    if message.WhichOneof("request") is None:
        raise InvalidRequest("the ProcessingRequest is empty: expected headers, a body or trailers")
    mode = message.protocol_config.request_body_mode  # in the first message alone; absent in Envoys before 1.33
    if not message.observability_mode and mode not in _MODES_ROUTED:
        raise InvalidRequest(f"request_body_mode: expected BUFFERED, got {ext.BodySendMode.Name(mode)}")
    return message


def told_by(headers: Any) -> Told:
    """Return what the headers of an `HttpHeaders` say of the request."""
    found = {_TOLD[one.key]: _value(one) for one in headers.headers.headers if one.key in _TOLD}
    return Told(**found)


def unchanged(kind: str) -> Any:
    """Return the answer to a message of this kind, such as `response_headers`, that changes nothing."""
    reply = ext.ProcessingResponse()
    getattr(reply, kind).SetInParent()
    return reply


def without_forgeries(headers: Any) -> Any:
    """Return the answer to an `HttpHeaders`: headers of ours that the caller sent are taken away."""
    reply = unchanged("request_headers")
    forged = sorted({one.key for one in headers.headers.headers} & set(OURS))
    if forged:
        common = reply.request_headers.response
        common.header_mutation.remove_headers.extend(forged)
        common.clear_route_cache = True  # the route may have been chosen by them
    return reply


def carried_out(verdict: Verdict) -> Any:
    """Return the answer to an `HttpBody`: headers set, the body replaced, the route chosen anew."""
    reply = unchanged("request_body")
    common = reply.request_body.response
    said = {MODEL: verdict.model, REASON: verdict.reason, BUNDLE: verdict.bundle}
    if verdict.confidence is not None:
        said[CONFIDENCE] = repr(verdict.confidence)
    mutation = common.header_mutation
    mutation.set_headers.extend(
        _set(name, value, _Overwrite.OVERWRITE_IF_EXISTS_OR_ADD) for name, value in said.items()
    )
    mutation.remove_headers.extend(_others(said))
    if verdict.body is not None:
        common.body_mutation.body = verdict.body
        # Envoy refuses a body that contradicts this header, and drops the header itself where it streams.
        mutation.set_headers.append(_set("content-length", str(len(verdict.body)), _Overwrite.OVERWRITE_IF_EXISTS))
    common.clear_route_cache = True
    return reply


_Overwrite = ext.HeaderValueOption


def _others(said: Iterable[str]) -> list[str]:
    return [name for name in OURS if name not in said]


def _set(name: str, value: str, action: Any) -> Any:
    header = ext.HeaderValue(key=name, raw_value=value.encode())
    return ext.HeaderValueOption(header=header, append_action=action)


def _value(header: Any) -> str:
    return str(header.raw_value or header.value.encode(), "utf-8", "replace")
