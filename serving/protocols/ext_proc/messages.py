"""Envoy's messages: bytes to `ProcessingRequest`, `EnvoyDecision` to `ProcessingResponse`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.message import DecodeError

from turnout.serving.errors import InvalidRequest
from turnout.serving.pb import ext_proc_pb2 as ext
from turnout.serving.protocols.ext_proc.deciding import EnvoyDecision, HeaderFields

MODEL, CONFIDENCE, REASON, BUNDLE, RUNG, EFFORT = (
    f"x-turnout-{name}" for name in ("model", "confidence", "reason", "bundle", "rung", "effort")
)
OURS = (MODEL, CONFIDENCE, REASON, BUNDLE, RUNG, EFFORT)
"""Headers that say what was decided: a caller's own must never be taken for ours."""

_TOLD = {
    "x-request-id": "request_id",
    "x-turnout-policy": "policy",
    "x-turnout-tenant": "tenant",
    "x-turnout-session": "session_id",
    "x-turnout-task": "task",
}
CHUNK_BYTES = 62_000
"""Of a streamed body in one message: Envoy takes at most 64 KB."""


def read_message(raw: bytes) -> Any:
    """Return the `ProcessingRequest` in the bytes; raises `InvalidRequest` when undecodable or empty."""
    try:
        message = ext.ProcessingRequest.FromString(raw)
    except DecodeError:  # its text may quote the bytes
        raise InvalidRequest("not an envoy.service.ext_proc.v3.ProcessingRequest: undecodable") from None
    if message.WhichOneof("request") is None:
        raise InvalidRequest("the ProcessingRequest is empty: expected headers, a body or trailers")
    return message


def mode_of(message: Any, *, rewrites: bool) -> Any:
    """Return the mode of the request's body that the first message of a stream tells; Envoys before 1.33 tell none.

    Args:
        message: the message.
        rewrites: whether the model in the body may be rewritten.

    Raises:
        InvalidRequest: a mode in which Envoy ignores what is decided: in STREAMED the headers are on their way before
            the body is there, so that nothing but the body can tell the model.
    """
    mode = message.protocol_config.request_body_mode
    routed = {ext.NONE, ext.BUFFERED, ext.FULL_DUPLEX_STREAMED, *([ext.STREAMED] if rewrites else [])}
    if not message.observability_mode and mode not in routed:
        hint = "; STREAMED needs rewriting" if mode == ext.STREAMED else ""
        name = ext.BodySendMode.Name(mode) if mode in ext.BodySendMode.values() else mode
        raise InvalidRequest(f"request_body_mode: expected BUFFERED or FULL_DUPLEX_STREAMED, got {name}{hint}")
    return mode


def told_by(headers: Any) -> HeaderFields:
    """Return what the headers of an `HttpHeaders` say of the request."""
    found = {_TOLD[one.key]: _value(one) for one in headers.headers.headers if one.key in _TOLD}
    return HeaderFields(**found)


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


def carried_out(verdict: EnvoyDecision) -> Any:
    """Return the answer to an `HttpBody`: headers set, the body replaced, the route chosen anew."""
    reply = unchanged("request_body")
    common = reply.request_body.response
    _say(common, verdict)
    if verdict.body is not None:
        common.body_mutation.body = verdict.body
        # Envoy refuses a body that contradicts this header, and drops the header itself where it streams.
        common.header_mutation.set_headers.append(_length(len(verdict.body)))
    return reply


def headers_decided(headers: Any, verdict: EnvoyDecision | None, n_bytes: int | None) -> Any:
    """Return the answer to an `HttpHeaders` that waited for the body.

    Args:
        headers: the message.
        verdict: what was decided; None leaves the request as it is.
        n_bytes: length of the body that follows; None where that is not known.
    """
    reply = without_forgeries(headers)
    common = reply.request_headers.response
    if verdict is not None:
        del common.header_mutation.remove_headers[:]
        _say(common, verdict)
    if n_bytes is None:
        common.header_mutation.remove_headers.append("content-length")
    elif verdict is not None and verdict.body is not None:
        common.header_mutation.set_headers.append(_length(n_bytes))
    return reply


def without_length(headers: Any) -> Any:
    """Return the answer to an `HttpHeaders` whose body will have another length; forged headers go as well."""
    reply = without_forgeries(headers)
    reply.request_headers.response.header_mutation.remove_headers.append("content-length")
    return reply


def dropped() -> Any:
    """Return the answer to a piece of a body that is kept back for later."""
    reply = unchanged("request_body")
    reply.request_body.response.body_mutation.clear_body = True
    return reply


def replaced(body: bytes) -> Any:
    """Return the answer to the last piece of a body: the whole body in its place."""
    reply = unchanged("request_body")
    reply.request_body.response.body_mutation.body = body
    return reply


def streamed(body: bytes, *, is_end: bool, kind: str = "request_body") -> Iterator[Any]:
    """Return a body in pieces that Envoy takes, in mode FULL_DUPLEX_STREAMED; `is_end`: nothing follows it."""
    for start in range(0, max(1, len(body)), CHUNK_BYTES):
        chunk = body[start : start + CHUNK_BYTES]
        if not chunk and not is_end:
            return
        reply = unchanged(kind)
        piece = getattr(reply, kind).response.body_mutation.streamed_response
        piece.body, piece.end_of_stream = chunk, is_end and start + CHUNK_BYTES >= len(body)
        yield reply


def _say(common: Any, verdict: EnvoyDecision) -> None:
    """Set what was decided in headers, take away those of ours that do not belong to it, choose the route anew."""
    said = {MODEL: verdict.model, REASON: verdict.reason, BUNDLE: verdict.bundle}
    if verdict.rung not in ("", verdict.model):
        said[RUNG] = verdict.rung
    if verdict.effort:
        said[EFFORT] = verdict.effort
    if verdict.confidence is not None:
        said[CONFIDENCE] = repr(verdict.confidence)
    mutation = common.header_mutation
    mutation.set_headers.extend(
        _set(name, value, _Overwrite.OVERWRITE_IF_EXISTS_OR_ADD) for name, value in said.items()
    )
    mutation.remove_headers.extend(_others(said))
    common.clear_route_cache = True


def _length(n_bytes: int) -> Any:
    return _set("content-length", str(n_bytes), _Overwrite.OVERWRITE_IF_EXISTS)


_Overwrite = ext.HeaderValueOption


def _others(said: Iterable[str]) -> list[str]:
    return [name for name in OURS if name not in said]


def _set(name: str, value: str, action: Any) -> Any:
    header = ext.HeaderValue(key=name, raw_value=value.encode())
    return ext.HeaderValueOption(header=header, append_action=action)


def _value(header: Any) -> str:
    return str(header.raw_value or header.value.encode(), "utf-8", "replace")
