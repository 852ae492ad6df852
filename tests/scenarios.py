"""Calls that nobody waits for any more: the same scenarios for the tests, in small, and for the scorecard, in large.

A server in this event loop around a gated model, a real socket, and what became of calls, queue and model.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from tests.gates import BLOCKER, GatedModel, until
from tests.running import server_in_loop
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.service.service import RouterService
from turnout.serving.wire.route import ROUTE_METHOD

WAITING, RUNNING, DONE = INSTANTS = ("waiting", "running", "done")


@dataclass(frozen=True)
class Expired:
    """Calls whose deadline passed behind a blocker: their codes, and how many of them reached the model."""

    codes: Counter[grpc.StatusCode]
    model_calls: int


@dataclass(frozen=True)
class Cancelled:
    """Calls of which half were cancelled: how they ended, and what the queue held a second later."""

    ends: Counter[str]
    items_left: int
    tenants_left: int


@dataclass(frozen=True)
class Survivors:
    """Batches of four of which a subset was cancelled: runs, and survivors with another answer than alone."""

    runs: int
    harmed: int


@asynccontextmanager
async def stub_of(bundle: Bundle, **settings: Any) -> AsyncIterator[tuple[RouterService, Any]]:
    """Serve in this loop, which reads late what its own clients send at once; gives the service and a `Route` stub."""
    settings = {"max_unread_calls": 1_000} | settings
    async with server_in_loop(bundle, **settings) as (server, address), grpc.aio.insecure_channel(address) as channel:
        yield (
            server.service,
            channel.unary_unary(
                ROUTE_METHOD,
                request_serializer=pb.RouteRequest.SerializeToString,
                response_deserializer=pb.RouteResponse.FromString,
            ),
        )


def gated(bundle: Bundle) -> Bundle:
    """Return the bundle with its model behind a gate."""
    return dataclasses.replace(bundle, model=GatedModel(bundle.model))


def codes_of(outcomes: list[object]) -> Counter[grpc.StatusCode]:
    """Count how calls ended."""
    return Counter(
        outcome.code() if isinstance(outcome, grpc.aio.AioRpcError) else grpc.StatusCode.OK for outcome in outcomes
    )


async def expired_behind_a_blocker(bundle: Bundle, n_calls: int) -> Expired:
    """Send calls with a deadline of 5 ms while the model is busy, and free it when all have ended."""
    behind = gated(bundle)
    async with stub_of(behind) as (service, route):
        blocker = asyncio.ensure_future(route(pb.RouteRequest(text=BLOCKER), timeout=60))
        await until(behind.model.at_gate.is_set)
        before = service.model_calls
        late = [route(pb.RouteRequest(text="late"), timeout=0.005) for _ in range(n_calls)]
        codes = codes_of(await asyncio.gather(*late, return_exceptions=True))
        await until(lambda: service.answering.admission.items <= 1)
        behind.model.gate.set()
        await blocker
        await route(pb.RouteRequest(text="after"), timeout=60)  # behind all that still waited
        assert behind.model.texts.count("late") == service.model_calls - before - 1
        return Expired(codes, service.model_calls - before - 1)


async def half_cancelled(bundle: Bundle, n_calls: int, seconds: float, seed: int = 4) -> Cancelled:
    """Send calls at random instants and cancel every second one at a random instant after that."""
    dice = random.Random(seed)
    async with stub_of(bundle, max_queue_items=400, max_tenant_share=1.0) as (service, route):

        async def one(n: int) -> str:
            await asyncio.sleep(dice.uniform(0, seconds))
            call = route(pb.RouteRequest(text="word " * 40), timeout=60)
            if n % 2:
                await asyncio.sleep(dice.uniform(0, 0.01))
                call.cancel()
            try:
                await call
            except asyncio.CancelledError:
                return "cancelled"
            except grpc.aio.AioRpcError as error:
                return str(error.code().name)
            return "ok"

        ends = Counter(await asyncio.gather(*(one(n) for n in range(n_calls))))
        admission = service.answering.admission
        await until(lambda: admission.items == 0, timeout_s=60)
        return Cancelled(ends, admission.items, len(admission._tenants))


async def survivors(bundle: Bundle, instant: str) -> Survivors:
    """Cancel every subset of four calls before, while or after the model runs, and look at the others' answers."""
    texts = ["word " * n for n in (3, 20, 45, 90)]
    behind = gated(bundle)
    runs = harmed = 0
    async with stub_of(behind) as (service, route):
        alone = [(await route(pb.RouteRequest(text=text), timeout=60)).p_match for text in texts]
        for n_cancelled in range(len(texts) + 1):
            for subset in itertools.combinations(range(len(texts)), n_cancelled):
                answers = await _four_calls(behind.model, service, route, texts, subset, instant)
                runs += 1
                harmed += sum(p_match != alone[n] for n, p_match in answers.items())
    return Survivors(runs, harmed)


async def _four_calls(
    model: GatedModel, service: RouterService, route: Any, texts: list[str], subset: tuple[int, ...], instant: str
) -> dict[int, float]:
    """Return the `p_match` of the calls that are not in the subset; fails when one of them hangs."""
    model.gate.clear()
    model.at_gate.clear()
    admission = service.answering.admission
    blocker = route(pb.RouteRequest(text=BLOCKER), timeout=60)
    await until(model.at_gate.is_set)
    calls = [route(pb.RouteRequest(text=text), timeout=60) for text in texts]
    await until(lambda: admission.items == 1 + len(texts))
    if instant == WAITING:
        _cancel(calls, subset)
        await until(lambda: admission.items == 1 + len(texts) - len(subset))
    model.gate.set()
    if instant == DONE:
        await until(lambda: admission.items == 0)
    if instant != WAITING:
        _cancel(calls, subset)
    await blocker
    left = [n for n in range(len(texts)) if n not in subset]
    replies = await asyncio.wait_for(asyncio.gather(*(calls[n] for n in left)), 60)
    await until(lambda: admission.items == 0)
    return dict(zip(left, (reply.p_match for reply in replies), strict=True))


def _cancel(calls: list[Any], subset: tuple[int, ...]) -> None:
    for n in subset:
        calls[n].cancel()
