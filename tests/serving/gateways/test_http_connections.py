"""Callers of the HTTP port that are idle, slow, silent or gone: others are answered, and the port is freed."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Authority
from tests.gates import BLOCKER, GatedModel, until
from tests.http_calls import call, http_server
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.protocols.http import bodies, connections
from turnout.serving.settings import ServerSettings, SettingsRefused

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]
BODY = b'{"text": "hello"}'
REQUEST = b"POST /v1/route HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
HALF_HEAD = b"POST /v1/route HTTP/1.1\r\nHost: x\r\nX-Half"
HALF_BODY = b"POST /v1/route HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"
UNREAD_BODY = b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n{"
LONG_S = 60.0


@contextlib.asynccontextmanager
async def callers(http: str, n: int, sent: bytes) -> AsyncIterator[list[Pair]]:
    """Open n connections and send the same on each."""
    host, port = http.split(":")
    pairs: list[Pair] = [await asyncio.open_connection(host, port) for _ in range(n)]
    for _, writer in pairs:
        writer.write(sent)
    try:
        yield pairs
    finally:
        for _, writer in pairs:
            writer.transport.abort()


async def statuses(http: str, scheme: str = "http", **options: Any) -> list[int]:
    """Return what somebody new is told on health, readiness and a decision."""
    told = [await call(http, path, scheme=scheme, **options) for path in ("/healthz", "/readyz")]
    told.append(await call(http, "/v1/route", {"text": "hello"}, scheme=scheme, **options))
    return [reply.status for reply in told]


async def answer_of(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    return head + await reader.readexactly(int(length.partition(b":")[2]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "sent",
    [b"", HALF_HEAD, b"P", b"\r\n", HALF_BODY, UNREAD_BODY],
    ids=["nothing", "half a head", "one byte", "empty line", "half a body", "body nobody reads"],
)
def test_hundreds_that_wait_keep_nobody_out(bundle: Bundle, sent: bytes):
    async def check() -> None:
        async with http_server(bundle) as (_, _, http), callers(http, 530, sent):
            await asyncio.sleep(0.3)
            async with asyncio.timeout(LONG_S):
                assert await statuses(http) == [200, 200, 200]

    asyncio.run(check())


def test_hundreds_of_idle_keep_alive_connections_keep_nobody_out(bundle: Bundle):
    async def check() -> None:
        async with http_server(bundle) as (_, _, http), callers(http, 520, b"") as pairs:
            async with asyncio.timeout(LONG_S):
                for reader, writer in pairs:
                    writer.write(REQUEST)
                    assert (await answer_of(reader)).startswith(b"HTTP/1.1 200")
                assert await statuses(http) == [200, 200, 200]
                for reader, writer in pairs[:20]:  # and those that were idle are still there
                    writer.write(REQUEST)
                    assert (await answer_of(reader)).startswith(b"HTTP/1.1 200")

    asyncio.run(check())


async def drip(writer: asyncio.StreamWriter, byte: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(byte)
            await writer.drain()
            await asyncio.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "dripped", "ends_with"),
    [
        (b"", b"", b""),
        (b"", b"\r\n", b""),
        (HALF_HEAD, b"", b"HTTP/1.1 408"),
        (HALF_HEAD, b"x", b"HTTP/1.1 408"),
        (b"GET /healthz HTTP/1.1\r\n", b"X: y\r\n", b"HTTP/1.1 408"),
        (UNREAD_BODY, b"x", b"HTTP/1.1 404"),
        (REQUEST, b"", b"HTTP/1.1 200"),
        (REQUEST, b"\r\n", b"HTTP/1.1 200"),
        (REQUEST + HALF_HEAD, b"x", b"HTTP/1.1 200"),
    ],
    ids=range(9),
)
def test_every_wait_for_a_caller_has_an_end_that_no_byte_puts_off(
    bundle: Bundle, sent: bytes, dripped: bytes, ends_with: bytes
):
    async def check() -> None:
        async with (
            http_server(bundle, http_head_s=0.5, http_keep_alive_s=0.5) as (server, _, http),
            callers(http, 3, sent) as pairs,
        ):
            dripping = [asyncio.create_task(drip(writer, dripped)) for _, writer in pairs if dripped]
            async with asyncio.timeout(LONG_S):
                for reader, _ in pairs:
                    with contextlib.suppress(ConnectionResetError):
                        assert (await reader.read()).startswith(ends_with)
                await until(lambda: not server.http.connections.open_now)
            for one in dripping:
                one.cancel()

    asyncio.run(check())


def test_body_that_drips_ends_at_its_own_limit(bundle: Bundle, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bodies, "BODY_LIMIT_S", 0.5)

    async def check() -> None:
        async with http_server(bundle, http_head_s=0.5) as (server, _, http), callers(http, 3, HALF_BODY) as pairs:
            dripping = [asyncio.create_task(drip(writer, b" ")) for _, writer in pairs]
            async with asyncio.timeout(LONG_S):
                for reader, _ in pairs:
                    assert (await answer_of(reader)).startswith(b"HTTP/1.1 504")
                await until(lambda: not server.http.connections.open_now)
            for one in dripping:
                one.cancel()

    asyncio.run(check())


def test_caller_that_never_reads_is_ended(bundle: Bundle, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connections, "TAKING_S", 0.5)
    asking = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 5000

    async def check() -> None:
        async with http_server(bundle) as (server, _, http), callers(http, 1, asking) as pairs:
            pairs[0][1].transport.pause_reading()
            async with asyncio.timeout(LONG_S):
                await until(lambda: server.http.connections.ended["unread"] == 1)
                shown = (await call(http, "/metrics")).body
                assert b'turnout_http_connections_ended_total{reason="unread"} 1.0' in shown
                assert b'turnout_build_info{onnxruntime="1.' in shown
                assert await statuses(http) == [200, 200, 200]
                await until(lambda: not server.http.connections.open_now)

    asyncio.run(check())


def test_full_table_lets_new_ones_in_and_the_longest_waiting_go(bundle: Bundle):
    blocked = dataclasses.replace(bundle, model=GatedModel(bundle.model))

    async def check() -> None:
        async with http_server(blocked, max_http_connections=5) as (server, _, http):
            working = asyncio.create_task(call(http, "/v1/route", {"text": BLOCKER}))
            await until(blocked.model.at_gate.is_set)
            async with callers(http, 4, b"") as silent, asyncio.timeout(LONG_S):
                await until(lambda: len(server.http.connections.open_now) == 5)
                assert (await call(http, "/healthz")).status == 200
                assert await silent[0][0].read() == b""  # the first to come is the first to go
                assert server.http.connections.ended["room"] == 1
                assert not silent[3][0].at_eof()
            blocked.model.gate.set()
            assert (await working).status == 200  # whoever is being answered stays

    asyncio.run(check())


def test_beyond_the_limit_of_work_decisions_are_refused_and_health_is_not(bundle: Bundle):
    blocked = dataclasses.replace(bundle, model=GatedModel(bundle.model))

    async def check() -> None:
        async with http_server(blocked, max_http_requests=2) as (server, _, http):
            working = [asyncio.create_task(call(http, "/v1/route", {"text": BLOCKER})) for _ in range(2)]
            await until(lambda: server.service.answering.admission.items == 2)
            refused = await call(http, "/v1/route", {"text": "hello"})
            assert (refused.status, refused.json()["code"]) == (503, "unavailable")
            assert "limit" in refused.json()["message"]
            assert (await call(http, "/metrics")).status == 503
            assert [(await call(http, path)).status for path in ("/healthz", "/readyz")] == [200, 200]
            blocked.model.gate.set()
            assert [(await one).status for one in working] == [200, 200]
            assert await statuses(http) == [200, 200, 200]

    asyncio.run(check())


def test_stalled_handshakes_end_and_keep_nobody_out(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connections, "HANDSHAKE_S", 1.0)
    cert, key = Authority("authority").leaf("server").write(tmp_path)

    async def check() -> None:
        async with (
            http_server(bundle, tls_cert=cert, tls_key=key) as (_, _, http),
            callers(http, 100, b"") as silent,
            callers(http, 100, b"\x16\x03\x01\x02") as half,
            asyncio.timeout(LONG_S),
        ):
            assert await statuses(http, "https", ssl=False) == [200, 200, 200]
            for reader, _ in silent + half:
                with contextlib.suppress(ConnectionResetError):
                    await reader.read()

    asyncio.run(check())


def test_connection_of_age_ends_with_its_next_answer(bundle: Bundle):
    async def check() -> None:
        async with http_server(bundle, max_connection_age_s=2.0) as (_, _, http), callers(http, 1, REQUEST) as pairs:
            reader, writer = pairs[0]
            assert b"connection: close" not in await answer_of(reader)
            await asyncio.sleep(2.1)
            writer.write(REQUEST)
            assert b"connection: close" in await answer_of(reader)
            assert await reader.read() == b""

    asyncio.run(check())


@pytest.mark.parametrize(
    ("ask", "status", "code"),
    [
        (lambda http: call(http, "/none"), 404, "unimplemented"),
        (lambda http: call(http, "/v1/none", {"text": "hello"}), 404, "unimplemented"),
        (lambda http: call(http, "/v1/route"), 405, "unimplemented"),
        (lambda http: call(http, "/healthz", {"text": "hello"}), 405, "unimplemented"),
    ],
    ids=range(4),
)
def test_what_is_not_there_is_an_error_in_the_shape_of_all(
    bundle: Bundle, ask: Callable[[str], Awaitable[Any]], status: int, code: str
):
    async def check() -> None:
        async with http_server(bundle) as (_, _, http):
            reply = await ask(http)
            assert (reply.status, reply.json()["code"]) == (status, code)
            assert reply.json()["message"]
            assert status != 405 or reply.headers["allow"]

    asyncio.run(check())


def test_unreadable_http_is_an_error_in_the_shape_of_all(bundle: Bundle):
    async def check() -> None:
        async with http_server(bundle) as (_, _, http), callers(http, 1, b"no HTTP\r\n\r\n") as pairs:
            head, _, body = (await pairs[0][0].read()).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 400")
            assert json.loads(body)["code"] == "invalid_argument"

    asyncio.run(check())


@pytest.mark.parametrize(
    "settings",
    [
        {"http_head_s": 0.0},
        {"http_head_s": float("nan")},
        {"http_keep_alive_s": -1.0},
        {"min_ping_interval_s": 0.0},
        {"keepalive_s": float("inf")},
        {"max_connection_age_s": -1.0},
        {"max_http_connections": 0},
        {"max_http_requests": 0},
    ],
    ids=str,
)
def test_times_and_numbers_that_cannot_work_are_refused(settings: dict[str, Any]):
    with pytest.raises(SettingsRefused, match=next(iter(settings))):
        ServerSettings(**settings)
