"""Peers that go silent without a word: clients leave them within seconds, and servers let dead callers go."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest

from tests.gates import until
from tests.relays import Relay, relay
from tests.running import server_in_loop
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.client import AsyncRouter, Router
from turnout.serving.client.connecting import PING_S, PING_TIMEOUT_S
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.server.running import RouterServer
from turnout.serving.settings import ServerSettings
from turnout.serving.wire.route import ROUTE_STREAM_METHOD

LONG_S = 60.0
QUICK = {"ping_s": 0.5, "ping_timeout_s": 0.5, "timeout_s": 0.3}
"""Pings that a test can wait for; the server must be told to bear them."""


@contextlib.asynccontextmanager
async def relayed(bundle: Bundle, **settings: Any) -> AsyncIterator[tuple[RouterServer, Relay, str]]:
    """Serve with a relay before it; gives the server, the relay and the server's own address."""
    settings = {"min_ping_interval_s": 0.05} | settings
    async with server_in_loop(bundle, **settings) as (server, address):
        with relay(address) as between:
            yield server, between, address


async def answered_by(router: AsyncRouter | Router) -> bool:
    """Ask once, of either client, with the client's own deadline."""
    if isinstance(router, AsyncRouter):
        return (await router.route(text="hello")).fallback_reason is None
    return (await asyncio.to_thread(router.route, text="hello")).fallback_reason is None


async def until_answered(router: AsyncRouter | Router) -> None:
    async with asyncio.timeout(LONG_S):
        while not await answered_by(router):  # noqa: ASYNC110  # each try is a call
            await asyncio.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [AsyncRouter, Router])
@pytest.mark.parametrize("watch_health", [False, True])
@pytest.mark.parametrize("calls_go_on", [True, False], ids=["busy", "idle"])
def test_connection_that_falls_silent_is_made_anew(
    bundle: Bundle, kind: Callable[..., Any], watch_health: bool, calls_go_on: bool
):
    async def check() -> None:
        async with relayed(bundle) as (_, between, _):
            router = kind(between.address, watch_health=watch_health, **QUICK)
            await until_answered(router)
            between.fall_silent()
            n_before = between.n_connections
            if calls_go_on:
                assert not await answered_by(router)
            else:
                async with asyncio.timeout(LONG_S):
                    await until(lambda: between.n_connections > n_before, LONG_S)  # found out without a call
            await until_answered(router)
            assert between.n_connections > n_before
            await asyncio.to_thread(router.close) if kind is Router else await router.close()

    asyncio.run(check())


@pytest.mark.slow
@pytest.mark.parametrize("watch_health", [False, True])
def test_replica_that_falls_silent_for_good_is_left_for_the_other(bundle: Bundle, watch_health: bool):
    async def check() -> None:
        async with relayed(bundle) as (_, between, _), relayed(bundle) as (other, _, there):
            target = f"ipv4:{between.address},{there}"
            async with AsyncRouter(target, watch_health=watch_health, **QUICK) as router:
                async with asyncio.timeout(LONG_S):
                    while not (between.n_connections and other.service.model_calls):
                        await router.route(text="hello")
                between.fall_silent(for_new_ones=True)
                n_good = 0
                async with asyncio.timeout(LONG_S):
                    while n_good < 40:  # with half of the calls lost that would never be
                        n_good = n_good + 1 if await answered_by(router) else 0

    asyncio.run(check())


def test_new_client_in_the_process_does_not_take_over_a_dead_connection(bundle: Bundle):
    async def check() -> None:
        async with (
            relayed(bundle) as (_, between, _),
            AsyncRouter(between.address, timeout_s=60, ping_s=0) as first,
        ):
            assert await answered_by(first)
            between.fall_silent()
            async with AsyncRouter(between.address, timeout_s=60, ping_s=0) as second:
                assert await answered_by(second)
            router = Router(between.address, timeout_s=60, ping_s=0)
            assert await answered_by(router)
            router.close()

    asyncio.run(check())


def test_silence_is_found_out_within_fifteen_seconds_by_default():
    assert PING_S + PING_TIMEOUT_S < 15


def test_callers_own_options_go_before_those_of_the_client(bundle: Bundle):
    async def check() -> None:
        async with (
            server_in_loop(bundle) as (_, address),
            AsyncRouter(address, timeout_s=60, channel_options=(("grpc.max_send_message_length", 100),)) as router,
        ):
            assert (await router.route(text="hello")).fallback_reason is None
            assert (await router.route(text="hello " * 100)).fallback_reason == "resource_exhausted"

    asyncio.run(check())


@pytest.mark.parametrize("times", [{"ping_s": -1}, {"ping_s": float("nan")}, {"ping_timeout_s": 0}, {"ping_s": 1e9}])
@pytest.mark.parametrize("kind", [AsyncRouter, Router])
def test_pings_that_cannot_be_are_refused(kind: Callable[..., Any], times: dict[str, float]):
    with pytest.raises(ValueError, match=next(iter(times))):
        kind("127.0.0.1:1", **times)


@contextlib.asynccontextmanager
async def pinging(address: str, every_ms: int) -> AsyncIterator[Any]:
    """Open an idle RouteStream over a connection that pings as often."""
    options = (
        ("grpc.keepalive_time_ms", every_ms),
        ("grpc.keepalive_timeout_ms", 30_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.use_local_subchannel_pool", 1),
    )
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        yield channel.stream_stream(ROUTE_STREAM_METHOD, response_deserializer=pb.RouteStreamResponse.FromString)()


async def ends(call: Any, within_s: float) -> grpc.StatusCode | None:
    """Return the code that an idle stream ends with; None when it goes on."""
    reading = asyncio.ensure_future(call.read())
    done, _ = await asyncio.wait((reading,), timeout=within_s)
    if not done:
        return None
    reading.exception()
    return await call.code()


@pytest.mark.slow
def test_pings_are_borne_down_to_the_interval_and_a_flood_is_not(bundle: Bundle):
    async def check() -> None:
        # gRPC's clients hold pings back to one a second, whatever they are told.
        async with server_in_loop(bundle, min_ping_interval_s=0.5) as (_, address), pinging(address, 100) as call:
            assert await ends(call, 6.0) is None
        async with server_in_loop(bundle, min_ping_interval_s=30.0) as (_, address), pinging(address, 100) as call:
            assert await ends(call, LONG_S) is grpc.StatusCode.UNAVAILABLE

    asyncio.run(check())


def test_pings_of_ten_seconds_are_borne_by_default():
    assert ServerSettings().min_ping_interval_s <= 10 / 2


def test_caller_that_is_gone_without_a_word_is_let_go(bundle: Bundle, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("turnout.serving.server.connections.PING_TIMEOUT_S", 0.5)

    async def check() -> None:
        async with (
            relayed(bundle, keepalive_s=0.5) as (server, between, _),
            pinging(between.address, 1_000_000) as call,
        ):
            await call.write(pb.RouteStreamRequest(request=pb.RouteRequest(text="hello")).SerializeToString())
            assert (await call.read()).result.response.model
            assert server.service.n_calls == 1
            between.fall_silent()
            await until(lambda: server.service.n_calls == 0, LONG_S)

    asyncio.run(check())


def test_connections_of_age_are_made_anew_and_no_call_fails_of_it(bundle: Bundle):
    async def check() -> None:
        async with relayed(bundle, max_connection_age_s=0.5) as (_, between, _):
            routers = [AsyncRouter(between.address, timeout_s=LONG_S) for _ in range(4)]
            ends_s = time.monotonic() + LONG_S
            while between.n_connections <= 8:  # four, and each again and again
                assert time.monotonic() < ends_s
                replies = await asyncio.gather(*(router.route(text="hello") for router in routers for _ in range(3)))
                assert [reply.fallback_reason for reply in replies] == [None] * 12
            for router in routers:
                await router.close()

    asyncio.run(check())


def test_stream_of_age_is_answered_to_its_last_request_and_ends_clean(bundle: Bundle):
    async def check() -> None:
        async with server_in_loop(bundle, max_connection_age_s=1.0) as (_, address), pinging(address, 10**6) as call:
            for n in range(20):
                request = pb.RouteRequest(text="hello", request_id=f"r{n}")
                await call.write(pb.RouteStreamRequest(request=request).SerializeToString())
            ids = [(await call.read()).result.response.request_id for _ in range(20)]
            assert ids == [f"r{n}" for n in range(20)]
            assert await ends(call, LONG_S) is grpc.StatusCode.UNAVAILABLE
            assert "open another" in await call.details()

    asyncio.run(check())
