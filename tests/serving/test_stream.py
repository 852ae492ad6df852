"""Requests as they come: pipelined, answered in order, bounded, each failing alone."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from tests.gates import BLOCKER, GatedModel, until
from tests.running import server_in_loop
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.service.service import RouterService
from turnout.serving.wire.route import ROUTE_STREAM_METHOD

INVALID = grpc.StatusCode.INVALID_ARGUMENT.value[0]


@contextlib.asynccontextmanager
async def streaming(bundle: Bundle, **settings: Any) -> AsyncIterator[tuple[RouterService, Any]]:
    async with server_in_loop(bundle, **settings) as (server, address), grpc.aio.insecure_channel(address) as channel:
        open_stream = channel.stream_stream(
            ROUTE_STREAM_METHOD, response_deserializer=pb.RouteStreamResponse.FromString
        )
        yield server.service, open_stream


def raw_of(**fields: Any) -> bytes:
    return pb.RouteStreamRequest(request=pb.RouteRequest(**fields)).SerializeToString()


async def collect(call: Any) -> list[pb.RouteResult]:
    results = []
    while (message := await call.read()) is not grpc.aio.EOF:
        results.append(message.result)
    return results


def ids(results: list[pb.RouteResult]) -> list[str]:
    return [result.response.request_id or result.failure.request_id for result in results]


def test_answers_come_in_order_while_requests_still_come(bundle: Bundle):
    async def check() -> None:
        async with streaming(bundle) as (_, open_stream):
            call = open_stream(timeout=60)
            for n in range(5):
                await call.write(raw_of(text="hello", request_id=f"lock step {n}"))
                assert (await call.read()).result.response.request_id == f"lock step {n}"
            for n in range(100):  # far ahead of the reader
                await call.write(raw_of(text="word " * (100 - n), request_id=f"r{n}"))
            await call.done_writing()
            assert ids(await collect(call)) == [f"r{n}" for n in range(100)]
            assert await call.code() == grpc.StatusCode.OK

    asyncio.run(check())


def test_two_streams_interleave(bundle: Bundle):
    async def check() -> None:
        async with streaming(bundle) as (_, open_stream):
            calls = [open_stream(timeout=60) for _ in range(2)]
            for n in range(40):
                for name, call in zip("ab", calls, strict=True):
                    await call.write(raw_of(text="hello", request_id=f"{name}{n}"))
            for name, call in zip("ab", calls, strict=True):
                await call.done_writing()
                assert ids(await collect(call)) == [f"{name}{n}" for n in range(40)]

    asyncio.run(check())


def test_bad_item_fails_alone_and_the_stream_goes_on(bundle: Bundle):
    bad = [b"", b"\xff" * 9, raw_of(request_id="empty"), raw_of(text="7 is NaN", request_id="nan"), b"\x0a\x02\xff\xff"]

    async def check() -> None:
        async with streaming(bundle) as (_, open_stream):
            call = open_stream(timeout=60)
            for raw in bad:
                await call.write(raw)
                await call.write(raw_of(text="hello", request_id="good"))
            await call.done_writing()
            results = await collect(call)
            codes = [result.failure.code for result in results[::2]]
            assert codes == [INVALID, INVALID, INVALID, grpc.StatusCode.INTERNAL.value[0], INVALID]
            assert ids(results[::2]) == ["", "", "empty", "nan", ""]
            assert ids(results[1::2]) == ["good"] * len(bad)

    asyncio.run(check())


def test_client_that_never_reads_is_not_read_from(bundle: Bundle):
    async def check() -> None:
        async with streaming(bundle) as (service, open_stream):
            call = open_stream(timeout=60)

            async def write_all() -> None:
                for _ in range(20_000):  # 8 KB come back for each, 160 MB in all
                    await call.write(raw_of(text="hello", request_id="x" * 8_000))

            writing = asyncio.create_task(write_all())
            answered = -1
            while answered != service.model_calls:  # until it stands still
                answered = service.model_calls
                await asyncio.sleep(0.5)
            assert 0 < answered < 5_000
            assert not writing.done()
            assert service.answering.admission.items == 0  # none of them holds a place in the queue
            call.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    asyncio.run(check())


def test_cancelled_stream_takes_its_work_along(bundle: Bundle):
    gated = dataclasses.replace(bundle, model=GatedModel(bundle.model))

    async def check() -> None:
        async with streaming(gated, max_stream_items=8) as (service, open_stream):
            call = open_stream(timeout=60)
            await call.write(raw_of(text=BLOCKER))
            for _ in range(20):
                await call.write(raw_of(text="hello"))
            admission = service.answering.admission
            await until(lambda: admission.items == 8)  # its bound, not the 21 that were sent
            await until(gated.model.at_gate.is_set)  # admitted is not yet on the model thread
            call.cancel()
            await until(lambda: admission.items == 0)
            gated.model.gate.set()
            other = open_stream(timeout=60)
            await other.write(raw_of(text="after"))
            await other.done_writing()
            assert len(await collect(other)) == 1
            assert gated.model.texts[-2:] == [BLOCKER, "after"]

    asyncio.run(check())


def test_stream_is_unavailable_until_warm(bundle: Bundle):
    async def check() -> None:
        async with streaming(bundle) as (service, open_stream):
            service.is_warm = False
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await collect(open_stream(timeout=60))
            assert refused.value.code() == grpc.StatusCode.UNAVAILABLE

    asyncio.run(check())
