"""Envoy's side of ext_proc: the messages that the filter sends for one HTTP request, and what it makes of the answers.

Written after the comments of external_processor.proto and processing_mode.proto (BUFFERED body): one answer of the
same kind for each message; removals before settings; a body that contradicts content-length is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import grpc

from tests.envoy_messages import ProcessingMode, base_pb2, ext

METHOD = "/envoy.service.ext_proc.v3.ExternalProcessor/Process"
BUFFERED = ext.ProtocolConfiguration(request_body_mode=ProcessingMode.BUFFERED)
STREAMED = ext.ProtocolConfiguration(request_body_mode=ProcessingMode.STREAMED)
_Option = base_pb2.HeaderValueOption


class EnvoyRefused(Exception):
    """What the processor answered is against the protocol; Envoy would fail the request."""


@dataclass(frozen=True)
class HttpRequest:
    """A request as a client sent it, or as the upstream gets it."""

    body: bytes | None
    headers: dict[str, str]
    trailers: dict[str, str] = field(default_factory=dict)
    times_rerouted: int = 0


def chat(model: str | None = "gpt-4o", text: str = "hello", **fields: Any) -> bytes:
    named = {} if model is None else {"model": model}
    return json.dumps(named | {"messages": [{"role": "user", "content": text}]} | fields).encode()


def post(body: bytes, trailers: dict[str, str] | None = None, **headers: str) -> HttpRequest:
    """Return a POST of a chat; keyword arguments are headers with `_` for `-`."""
    sent = {":method": "POST", ":path": "/v1/chat/completions", ":scheme": "http", ":authority": "llm.test"}
    sent |= {"content-type": "application/json", "content-length": str(len(body)), "x-request-id": "r-1"}
    return HttpRequest(body, sent | {name.replace("_", "-"): text for name, text in headers.items()}, trailers or {})


def get(**headers: str) -> HttpRequest:
    return HttpRequest(None, {":method": "GET", ":path": "/v1/models"} | headers)


def buffered(request: HttpRequest, *, skip_headers: bool = False) -> Iterator[ext.ProcessingRequest]:
    """Return Envoy's messages for a request, body mode BUFFERED."""
    has_body = request.body is not None
    if not skip_headers:
        headers = ext.HttpHeaders(headers=_map(request.headers), end_of_stream=not has_body)
        yield ext.ProcessingRequest(request_headers=headers, protocol_config=BUFFERED)
    if has_body:
        body = ext.HttpBody(body=request.body, end_of_stream=not request.trailers)
        yield ext.ProcessingRequest(request_body=body, protocol_config=BUFFERED if skip_headers else None)
    if request.trailers:
        yield ext.ProcessingRequest(request_trailers=ext.HttpTrailers(trailers=_map(request.trailers)))


def response_part() -> Iterator[ext.ProcessingRequest]:
    """Return Envoy's messages for the response, where the operator leaves its headers on SEND."""
    yield ext.ProcessingRequest(response_headers=ext.HttpHeaders(headers=_map({":status": "200"})))
    yield ext.ProcessingRequest(response_body=ext.HttpBody(body=b'{"choices": []}', end_of_stream=False))
    yield ext.ProcessingRequest(response_trailers=ext.HttpTrailers(trailers=_map({"x-cost": "1"})))


def observed(request: HttpRequest, chunk_bytes: int = 10) -> Iterator[ext.ProcessingRequest]:
    """Return Envoy's messages in observability mode, where bodies are streamed."""
    headers = ext.HttpHeaders(headers=_map(request.headers))
    messages = [ext.ProcessingRequest(request_headers=headers, protocol_config=STREAMED)]
    body = request.body or b""
    for start in range(0, len(body), chunk_bytes):
        is_last = start + chunk_bytes >= len(body) and not request.trailers
        chunk = ext.HttpBody(body=body[start : start + chunk_bytes], end_of_stream=is_last)
        messages.append(ext.ProcessingRequest(request_body=chunk))
    if request.trailers:
        messages.append(ext.ProcessingRequest(request_trailers=ext.HttpTrailers(trailers=_map(request.trailers))))
    for message in messages:
        message.observability_mode = True
        yield message


def stub(channel: Any) -> Any:
    return channel.stream_stream(
        METHOD,
        request_serializer=ext.ProcessingRequest.SerializeToString,
        response_deserializer=ext.ProcessingResponse.FromString,
    )


async def pass_through(
    channel: Any, request: HttpRequest, messages: Iterable[ext.ProcessingRequest] | None = None, **options: Any
) -> HttpRequest:
    """Send a request through the filter; return what the upstream gets. Raises what the stream fails with."""
    call = stub(channel)(**{"timeout": 10} | options)
    for message in buffered(request) if messages is None else messages:
        await call.write(message)
        reply = await call.read()
        if reply is grpc.aio.EOF:
            await _raise_status(call)
        request = applied(request, message, reply)
    await call.done_writing()
    if await call.read() is not grpc.aio.EOF:
        raise EnvoyRefused("an answer that nobody asked for")
    await _raise_status(call)
    return request


def applied(request: HttpRequest, message: ext.ProcessingRequest, reply: ext.ProcessingResponse) -> HttpRequest:
    """Return the request as it is after one answer."""
    kind = message.WhichOneof("request")
    if reply.WhichOneof("response") != kind:
        raise EnvoyRefused(f"expected {kind}, got {reply.WhichOneof('response')}")
    if not kind.startswith("request_") or kind.endswith("trailers"):
        if reply != ext.ProcessingResponse(**{kind: type(getattr(reply, kind))()}):
            raise EnvoyRefused(f"{kind}: expected nothing to change")
        return request
    common = getattr(reply, kind).response
    headers = _mutated(request.headers, common.header_mutation)
    body = request.body
    if common.HasField("body_mutation"):
        body = common.body_mutation.body
        if headers.get("content-length", str(len(body))) != str(len(body)):
            raise EnvoyRefused(f"content-length {headers['content-length']} of a body of {len(body)} bytes")
    rerouted = request.times_rerouted + common.clear_route_cache
    return replace(request, headers=headers, body=body, times_rerouted=rerouted)


def _mutated(headers: dict[str, str], mutation: ext.HeaderMutation) -> dict[str, str]:
    changed = {name: text for name, text in headers.items() if name not in mutation.remove_headers}
    for option in mutation.set_headers:
        name = option.header.key
        if name.startswith((":", "x-envoy")) or name == "host" or option.header.value or name != name.lower():
            raise EnvoyRefused(f"may not set {name}")
        if option.append_action == _Option.OVERWRITE_IF_EXISTS and name not in changed:
            continue
        if option.append_action == _Option.APPEND_IF_EXISTS_OR_ADD and name in changed:
            raise EnvoyRefused(f"{name} would be there twice")
        changed[name] = option.header.raw_value.decode("ascii")
    return changed


def _map(headers: dict[str, str]) -> base_pb2.HeaderMap:
    values = [base_pb2.HeaderValue(key=name, raw_value=text.encode()) for name, text in headers.items()]
    return base_pb2.HeaderMap(headers=values)


async def _raise_status(call: Any) -> None:
    if await call.code() != grpc.StatusCode.OK:
        raise grpc.aio.AioRpcError(await call.code(), grpc.aio.Metadata(), grpc.aio.Metadata(), await call.details())
