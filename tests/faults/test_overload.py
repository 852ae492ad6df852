"""Overload: what can't be served is refused at once, nobody takes all, and cancelled work frees its place."""

from __future__ import annotations

import asyncio
import dataclasses
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from tests.gates import BLOCKER, GatedModel, until
from tests.running import SERVING, health_of, server_in_loop
from tests.scenarios import INSTANTS, Survivors, codes_of, expired_behind_a_blocker, half_cancelled, stub_of, survivors
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.client import AsyncRouter, RouteItem
from turnout.serving.errors import Overloaded
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.service.admission import DEADLINE_MARGIN, FIRST_ESTIMATE_S, Admission
from turnout.serving.service.service import RouterService
from turnout.serving.service.status import PUSHBACK_KEY
from turnout.serving.settings import ServerSettings, SettingsRefused
from turnout.serving.wire.route import ROUTE_METHOD

EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
EXPIRED = grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.fixture
def gated(bundle: Bundle) -> Bundle:
    return dataclasses.replace(bundle, model=GatedModel(bundle.model))


@asynccontextmanager
async def blocked(gated: Bundle, **settings: Any) -> AsyncIterator[tuple[RouterService, Any, str, asyncio.Future]]:
    """Serve with the blocker at the gate; gives the service, a `Route` stub, the address, the blocker."""
    async with (
        server_in_loop(gated, **settings) as (server, address),
        grpc.aio.insecure_channel(address) as channel,
    ):
        route = channel.unary_unary(
            ROUTE_METHOD,
            request_serializer=pb.RouteRequest.SerializeToString,
            response_deserializer=pb.RouteResponse.FromString,
        )
        blocker = asyncio.ensure_future(route(pb.RouteRequest(text=BLOCKER), timeout=60))
        await until(gated.model.at_gate.is_set)
        try:
            yield server.service, route, address, blocker
        finally:
            gated.model.gate.set()


def test_full_queue_refuses_at_once_and_says_when_to_come_again(gated: Bundle):
    async def timed(call: Any) -> float:
        started = time.perf_counter()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() == EXHAUSTED
        assert int(dict(refused.value.trailing_metadata())[PUSHBACK_KEY]) >= 1
        return time.perf_counter() - started

    async def check() -> None:
        async with blocked(gated, max_queue_items=10, max_tenant_share=1.0) as (service, route, address, blocker):
            waiting = [asyncio.ensure_future(route(pb.RouteRequest(text="hello"), timeout=60)) for _ in range(9)]
            await until(lambda: service.answering.admission.items == 10)
            took_s = [await timed(route(pb.RouteRequest(text="hello"), timeout=60)) for _ in range(200)]
            assert statistics.median(took_s) < 10  # one that waits for the queue waits until the gate opens
            assert await asyncio.to_thread(health_of, address) == SERVING
            assert not blocker.done()
            gated.model.gate.set()
            assert codes_of(await asyncio.gather(blocker, *waiting)) == {grpc.StatusCode.OK: 10}
            assert service.answering.admission.refused == {"queue": 200}
            await until(lambda: service.answering.admission.items == 0)

    asyncio.run(check())


def test_accepted_and_refused_are_all_that_were_sent(bundle: Bundle):
    async def check() -> None:
        async with stub_of(bundle, max_queue_items=20, max_unread_calls=1_000) as (service, route):
            calls = [route(pb.RouteRequest(text="word " * 60), timeout=60) for _ in range(400)]
            codes = codes_of(await asyncio.gather(*calls, return_exceptions=True))
            assert codes.keys() <= {grpc.StatusCode.OK, EXHAUSTED}
            assert (service.model_calls, service.answering.admission.refused.total()) == (
                codes[grpc.StatusCode.OK],
                codes[EXHAUSTED],
            )

    asyncio.run(check())


def test_more_calls_than_the_loop_can_read_are_dropped_and_not_kept(bundle: Bundle):
    """The clients share the server's loop, which reads none of their calls before all are sent."""
    n_calls, max_unread_calls = 1_000, 100

    async def check() -> None:
        async with stub_of(bundle, max_unread_calls=max_unread_calls) as (service, route):
            calls = [route(pb.RouteRequest(text="hello"), timeout=60) for _ in range(n_calls)]
            codes = codes_of(await asyncio.gather(*calls, return_exceptions=True))
            assert codes.keys() <= {grpc.StatusCode.OK, EXHAUSTED, grpc.StatusCode.CANCELLED}
            assert n_calls - codes[grpc.StatusCode.CANCELLED] <= 4 * max_unread_calls
            assert codes[grpc.StatusCode.OK] == service.model_calls > 0
            assert (await route(pb.RouteRequest(text="after"), timeout=60)).model

    asyncio.run(check())


def test_batch_items_count_as_items_and_are_refused_alone(gated: Bundle):
    async def check() -> None:
        async with (
            blocked(gated, max_queue_items=10, max_tenant_share=1.0) as (service, _, address, _),
            AsyncRouter(address, timeout_s=60) as router,
        ):
            batch = asyncio.ensure_future(router.route_batch([RouteItem(text="hello")] * 15))
            await until(lambda: service.answering.admission.items == 10)
            gated.model.gate.set()
            reasons = [one.fallback_reason for one in await batch]
            assert reasons == [None] * 9 + ["resource_exhausted"] * 6

    asyncio.run(check())


def test_one_tenant_does_not_starve_another(gated: Bundle):
    async def check() -> None:
        async with blocked(gated, max_queue_items=20) as (service, route, _, _):
            greedy = [
                asyncio.ensure_future(route(pb.RouteRequest(text="hello", tenant="greedy"), timeout=60))
                for _ in range(50)
            ]
            await until(lambda: service.answering.admission.refused["tenant"] == 40)
            modest = [
                asyncio.ensure_future(route(pb.RouteRequest(text="hello", tenant="modest"), timeout=60))
                for _ in range(5)
            ]
            await until(lambda: service.answering.admission.items == 16)
            gated.model.gate.set()
            assert codes_of(await asyncio.gather(*modest)) == {grpc.StatusCode.OK: 5}
            outcomes = codes_of(await asyncio.gather(*greedy, return_exceptions=True))
            assert outcomes == {grpc.StatusCode.OK: 10, EXHAUSTED: 40}

    asyncio.run(check())


def test_expired_work_is_not_started(bundle: Bundle):
    done = asyncio.run(expired_behind_a_blocker(bundle, 200))
    assert done.codes[EXPIRED] + done.codes[EXHAUSTED] == 200
    assert done.model_calls == 0


def test_cancel_frees_the_place(bundle: Bundle):
    done = asyncio.run(half_cancelled(bundle, 400, seconds=0.3))
    assert done.ends["ok"] >= 200
    assert done.ends["ok"] + done.ends["cancelled"] == 400
    assert (done.items_left, done.tenants_left) == (0, 0)


@pytest.mark.parametrize("instant", INSTANTS)
def test_cancel_harms_nobody(bundle: Bundle, instant: str):
    """Every subset of four callers is cancelled; the survivors get the answers they get alone."""
    assert asyncio.run(survivors(bundle, instant)) == Survivors(runs=16, harmed=0)


def test_deadline_that_cannot_be_met_is_refused_and_one_that_can_is_not():
    admission = Admission(100, 1.0)
    patience_s = DEADLINE_MARGIN * FIRST_ESTIMATE_S
    with admission.slot("", None), admission.slot("", None):
        with pytest.raises(Overloaded, match="deadline"), admission.slot("", 2.9 * patience_s):
            pass
        with admission.slot("", 3.1 * patience_s):
            assert admission.items == 3
    assert (admission.items, admission.refused) == (0, {"deadline": 1})


def test_lone_caller_is_never_refused_for_its_deadline():
    admission = Admission(100, 1.0)
    for _ in range(200):
        admission.observe(10.0)
    assert admission.service_s > 1
    with admission.slot("", 0.001):
        assert admission.items == 1


def test_estimate_follows_the_service_time_and_one_stall_hardly_moves_it():
    admission = Admission(100, 1.0)
    admission.observe(10.0)
    assert admission.service_s < 1.2 * FIRST_ESTIMATE_S
    for _ in range(200):
        admission.observe(4e-3)
    assert admission.service_s == pytest.approx(4e-3, rel=0.01)


@pytest.mark.parametrize(
    "settings",
    [
        {"max_queue_items": 0},
        {"max_unread_calls": 0},
        {"max_batch_items": 0},
        {"max_stream_items": -1},
        {"max_tenant_share": 0.0},
        {"max_tenant_share": float("nan")},
        {"max_batch_bytes": 16 << 20},
    ],
)
def test_impossible_limit_is_refused_by_name(settings: dict):
    with pytest.raises(SettingsRefused, match=next(iter(settings))):
        ServerSettings(**settings)
