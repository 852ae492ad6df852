"""Envoy's external processor where bodies come in pieces, FULL_DUPLEX_STREAMED or STREAMED, as Envoy sends them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import grpc
import pytest

from tests.envoy import EnvoyRefused, HttpRequest, _map, _mutated, chat, get, post, stub
from tests.envoy_messages import ProcessingMode, ext
from tests.running import server_in_loop
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.settings import ExtProc

DUPLEX, STREAMED = ProcessingMode.FULL_DUPLEX_STREAMED, ProcessingMode.STREAMED
MAX_PIECE_BYTES = 64 << 10
LONG = "word " * 60
"""Goes to the strong model of the tiny bundle."""


def in_pieces(request: HttpRequest, mode: Any, n_bytes: int) -> Iterator[Any]:
    """Return Envoy's messages for a request whose body comes in pieces."""
    config = ext.ProtocolConfiguration(request_body_mode=mode, response_body_mode=mode)
    has_body = request.body is not None
    headers = ext.HttpHeaders(headers=_map(request.headers), end_of_stream=not has_body)
    yield ext.ProcessingRequest(request_headers=headers, protocol_config=config)
    body = request.body or b""
    for start in range(0, len(body), n_bytes):
        is_last = start + n_bytes >= len(body) and not request.trailers
        piece = ext.HttpBody(body=body[start : start + n_bytes], end_of_stream=is_last)
        yield ext.ProcessingRequest(request_body=piece)
    if request.trailers:
        yield ext.ProcessingRequest(request_trailers=ext.HttpTrailers(trailers=_map(request.trailers)))


def forwarded(request: HttpRequest, replies: list[Any]) -> HttpRequest:
    """Return what Envoy forwards of a request in FULL_DUPLEX_STREAMED: headers first, then what it is sent."""
    kinds = [reply.WhichOneof("response") for reply in replies]
    n_bodies = kinds.count("request_body")
    wanted = ["request_headers"] + ["request_body"] * n_bodies + ["request_trailers"] * bool(request.trailers)
    if kinds != wanted:
        raise EnvoyRefused(f"expected {wanted}, got {kinds}")
    common = replies[0].request_headers.response
    pieces = [reply.request_body.response for reply in replies[1 : 1 + n_bodies]]
    ends = [piece.body_mutation.streamed_response.end_of_stream for piece in pieces]
    if n_bodies and ends != [False] * (n_bodies - 1) + [not request.trailers]:
        raise EnvoyRefused(f"end of the body: {ends}")
    for piece in pieces:
        if piece.body_mutation.WhichOneof("mutation") != "streamed_response" or piece.HasField("header_mutation"):
            raise EnvoyRefused("expected nothing but a streamed response")
        if len(piece.body_mutation.streamed_response.body) > MAX_PIECE_BYTES:
            raise EnvoyRefused("a piece is too long")
    body = b"".join(piece.body_mutation.streamed_response.body for piece in pieces)
    headers = _mutated(request.headers, common.header_mutation)
    if headers.get("content-length", str(len(body))) != str(len(body)):
        raise EnvoyRefused("content-length contradicts the body")
    return replace(request, headers=headers, body=body if n_bodies else None, times_rerouted=common.clear_route_cache)


async def duplex(channel: Any, request: HttpRequest, n_bytes: int = 17) -> HttpRequest:
    call = stub(channel)(timeout=60)
    for message in in_pieces(request, DUPLEX, n_bytes):
        await call.write(message)
    await call.done_writing()
    return forwarded(request, [reply async for reply in call])


async def piecewise(channel: Any, request: HttpRequest, n_bytes: int = 17) -> HttpRequest:
    """Send a request in mode STREAMED, where Envoy waits for the answer to each piece and applies it."""
    call, body, headers = stub(channel)(timeout=60), b"", request.headers
    for message in in_pieces(request, STREAMED, n_bytes):
        await call.write(message)
        reply = await call.read()
        if reply is grpc.aio.EOF:
            raise EnvoyRefused(await call.details())
        kind = message.WhichOneof("request")
        if reply.WhichOneof("response") != kind:
            raise EnvoyRefused(f"expected {kind}")
        if kind == "request_headers":
            headers = _mutated(headers, reply.request_headers.response.header_mutation)
        elif kind == "request_body":
            mutation = reply.request_body.response.body_mutation
            piece = {"body": mutation.body, "clear_body": b"", None: message.request_body.body}
            body += piece[mutation.WhichOneof("mutation")]
    await call.done_writing()
    if headers.get("content-length", str(len(body))) != str(len(body)):
        raise EnvoyRefused("content-length contradicts the body")
    return replace(request, headers=headers, body=body if request.body is not None else None)


def passed(bundle: Bundle, way: Any, request: HttpRequest, n_bytes: int = 17, **settings: Any) -> HttpRequest:
    async def check() -> HttpRequest:
        settings_ = {"ext_proc": ExtProc.REWRITE} | settings
        async with server_in_loop(bundle, **settings_) as (_, address), grpc.aio.insecure_channel(address) as channel:
            return await way(channel, request, n_bytes)

    return asyncio.run(check())


@pytest.mark.parametrize("n_bytes", [1, 17, 10**6])
@pytest.mark.parametrize(("text", "model"), [("hello", "gpt-4o-mini"), (LONG, "gpt-4o")])
@pytest.mark.parametrize("trailers", [None, {"x-checksum": "1"}], ids=["", "trailers"])
def test_duplex_request_goes_where_a_buffered_one_does(
    bundle: Bundle, n_bytes: int, text: str, model: str, trailers: Any
):
    request = post(chat("auto", text, temperature=0.5), trailers)
    got = passed(bundle, duplex, request, n_bytes)
    assert json.loads(got.body) == json.loads(chat(model, text, temperature=0.5))
    assert got.headers["content-length"] == str(len(got.body))
    assert got.headers["x-turnout-model"] == model
    assert got.headers["x-turnout-reason"] == "MODEL"
    assert float(got.headers["x-turnout-confidence"])
    assert got.times_rerouted == 1


def test_duplex_headers_mode_leaves_the_body(bundle: Bundle):
    request = post(chat("gpt-4o"))
    got = passed(bundle, duplex, request, ext_proc=ExtProc.HEADERS)
    assert (got.body, got.headers["x-turnout-model"]) == (request.body, "gpt-4o-mini")


@pytest.mark.parametrize("way", [duplex, piecewise])
@pytest.mark.parametrize(
    "body",
    [b"not JSON", b"{}", chat("other-model"), b'{"model": "gpt-4o", "messages": ' + b" " * 400_000, b"x" * 300_000],
    ids=range(5),
)
def test_what_is_not_ours_to_decide_comes_through_to_the_byte(bundle: Bundle, way: Any, body: bytes):
    forged = post(body, x_turnout_model="forged")
    got = passed(bundle, way, forged, 10_000, max_request_bytes=200_000)
    assert got.body == body
    assert "x-turnout-model" not in got.headers


@pytest.mark.parametrize("way", [duplex, piecewise])
def test_auto_beyond_the_limit_becomes_the_strong_model_and_loses_nothing(bundle: Bundle, way: Any):
    got = passed(bundle, way, post(chat("auto", "word " * 100_000)), 10_000, max_request_bytes=200_000)
    assert json.loads(got.body) == json.loads(chat("gpt-4o", "word " * 100_000))


@pytest.mark.parametrize("way", [duplex, piecewise])
def test_request_without_a_body_is_left(bundle: Bundle, way: Any):
    got = passed(bundle, way, get(**{"x-turnout-reason": "forged"}))
    assert (got.body, got.headers) == (None, get().headers)


def test_duplex_body_that_ends_with_an_empty_piece(bundle: Bundle):
    async def check() -> None:
        async with (
            server_in_loop(bundle, ext_proc=ExtProc.REWRITE) as (_, address),
            grpc.aio.insecure_channel(address) as channel,
        ):
            request = post(chat("auto"))
            *messages, last = in_pieces(request, DUPLEX, 17)
            last.request_body.end_of_stream = False
            messages += [last, ext.ProcessingRequest(request_body=ext.HttpBody(end_of_stream=True))]
            call = stub(channel)(iter(messages), timeout=60)
            assert json.loads(forwarded(request, [one async for one in call]).body)["model"] == "gpt-4o-mini"

    asyncio.run(check())


def test_duplex_response_is_handed_on_to_the_byte(bundle: Bundle):
    async def check() -> None:
        async with (
            server_in_loop(bundle, ext_proc=ExtProc.REWRITE) as (_, address),
            grpc.aio.insecure_channel(address) as channel,
        ):
            sent = [b"a" * 200_000, b"", b"b", b""]
            response = [ext.ProcessingRequest(response_headers=ext.HttpHeaders(headers=_map({":status": "200"})))]
            response += [
                ext.ProcessingRequest(response_body=ext.HttpBody(body=body, end_of_stream=number == len(sent) - 1))
                for number, body in enumerate(sent)
            ]
            call = stub(channel)(iter([*in_pieces(post(chat()), DUPLEX, 1000), *response]), timeout=60)
            told = [one async for one in call if one.WhichOneof("response") == "response_body"]
            pieces = [one.response_body.response.body_mutation.streamed_response for one in told]
            assert b"".join(piece.body for piece in pieces) == b"".join(sent)
            assert [piece.end_of_stream for piece in pieces][-1:] == [True]
            assert sum(piece.end_of_stream for piece in pieces) == 1
            assert max(len(piece.body) for piece in pieces) <= MAX_PIECE_BYTES

    asyncio.run(check())


@pytest.mark.parametrize("n_bytes", [1, 17, 10**6])
def test_streamed_body_names_the_model_that_was_decided(bundle: Bundle, n_bytes: int):
    got = passed(bundle, piecewise, post(chat("auto", "hello", temperature=0.5)), n_bytes)
    assert json.loads(got.body) == json.loads(chat("gpt-4o-mini", "hello", temperature=0.5))
    assert "content-length" not in got.headers


def test_streamed_body_with_trailers_is_refused_and_not_lost_in_silence(bundle: Bundle):
    with pytest.raises(grpc.aio.AioRpcError, match="FULL_DUPLEX_STREAMED"):
        passed(bundle, piecewise, post(chat("auto"), {"x-checksum": "1"}))
