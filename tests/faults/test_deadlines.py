"""Work that nobody waits for any more does not reach the model, and harms nobody else's."""

from __future__ import annotations

import asyncio
import dataclasses
import time

import grpc
import pytest

from tests.gates import BLOCKER, GatedModel, until
from tests.running import server_in_loop
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.errors import DeadlineSpent
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.router.prompt import Prompt
from turnout.serving.service.model_thread import Ask, ModelThread
from turnout.serving.wire.route import DESCRIBE_MODEL_METHOD, ROUTE_METHOD

NOT_IN_TIME = {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED}
"""Found out too late, or seen to come too late and refused at once."""


@pytest.fixture
def gated(bundle: Bundle) -> Bundle:
    return dataclasses.replace(bundle, model=GatedModel(bundle.model))


def code_of(outcome: object) -> grpc.StatusCode:
    assert isinstance(outcome, grpc.aio.AioRpcError), outcome
    return outcome.code()


def test_expired_deadline_never_reaches_the_model(gated: Bundle):
    async def check() -> None:
        async with server_in_loop(gated) as (server, address), grpc.aio.insecure_channel(address) as channel:
            call = channel.unary_unary(ROUTE_METHOD, request_serializer=pb.RouteRequest.SerializeToString)
            blocker = asyncio.ensure_future(call(pb.RouteRequest(text=BLOCKER), timeout=60))
            await asyncio.to_thread(gated.model.at_gate.wait, 60)
            seen, started = list(gated.model.texts), server.service.model_calls
            late = [call(pb.RouteRequest(text=f"late {word}"), timeout=0.05) for word in "abcdefgh" * 8]
            outcomes = await asyncio.gather(*late, return_exceptions=True)
            # A call behind them on the same connection: once it is answered, the server has met them all.
            await channel.unary_unary(DESCRIBE_MODEL_METHOD)(b"", timeout=60)
            await until(lambda: server.service.answering.admission.items == 1)  # the blocker
            gated.model.gate.set()
            await blocker
            await call(pb.RouteRequest(text="after"), timeout=60)
            assert {code_of(outcome) for outcome in outcomes} <= NOT_IN_TIME
            assert gated.model.texts[len(seen) :] == ["after"]
            assert server.service.model_calls == started + 1

    asyncio.run(check())


def test_deadline_is_checked_on_the_model_thread_itself(gated: Bundle):
    thread = ModelThread(lambda _: None, early_exit=True)
    with pytest.raises(DeadlineSpent):
        thread.run(Ask(gated.model, Prompt("hello"), 0.5, time.monotonic() - 1e-3, 0))
    assert gated.model.texts == []
    assert thread.run(Ask(gated.model, Prompt("hello"), 0.5, time.monotonic() + 10, 0)).prediction.p_match
    thread.close()


def test_cancelled_caller_harms_nobody_else(gated: Bundle):
    async def check() -> None:
        async with server_in_loop(gated) as (server, address), grpc.aio.insecure_channel(address) as channel:
            call = channel.unary_unary(
                ROUTE_METHOD,
                request_serializer=pb.RouteRequest.SerializeToString,
                response_deserializer=pb.RouteResponse.FromString,
            )
            blocker = call(pb.RouteRequest(text=BLOCKER), timeout=60)
            await asyncio.to_thread(gated.model.at_gate.wait, 60)
            waiting = [call(pb.RouteRequest(text="hello", request_id=str(i)), timeout=60) for i in range(8)]
            admission = server.service.answering.admission
            await until(lambda: admission.items == 9)
            for cancelled in (blocker, *waiting[::2]):
                cancelled.cancel()
            await until(lambda: admission.items == 4)
            gated.model.gate.set()
            replies = await asyncio.gather(*waiting[1::2])
            assert [reply.request_id for reply in replies] == ["1", "3", "5", "7"]
            assert gated.model.texts.count("hello") == 4

    asyncio.run(check())
