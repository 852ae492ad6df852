"""The handlers of RouterService: bytes of a request in, a response or a status of the contract out.

Handlers get bytes, not messages, so that size and decoding errors are answered by us and not by the
library (which would say UNKNOWN, with the parser's text).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, Awaitable
from typing import Any

import grpc

from serving.bundle import Bundle
from serving.errors import InvalidRequest, NotServing
from serving.observe.calls import observed
from serving.observe.metrics import ServerMetrics
from serving.observe.tracing import Tracing
from serving.pb import router_pb2 as pb
from serving.server.answering import Answering
from serving.server.config import ServerSettings
from serving.server.describe import description, read_describe
from serving.server.items import batch_response, failed_result, read_batch, read_stream_item, stream_response
from serving.server.status import failure_of
from serving.wire import SERVICE_NAME


class RouterService:
    """The RPCs over one `Answering`.

    Attributes:
        is_warm: whether calls are answered; UNAVAILABLE until `warm_up` is done.
        answering: the path of every request, with queue and model thread.
        metrics: what this worker counts.
    """

    def __init__(
        self,
        bundle: Bundle,
        settings: ServerSettings,
        metrics: ServerMetrics | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        """Take the bundle to answer from, the limits, and where calls are counted and traced."""
        self.is_warm = False
        self.metrics = metrics or ServerMetrics()
        self._tracing = tracing
        self.answering = Answering(bundle, settings, self.metrics)
        self._settings = settings

    @property
    def model_calls(self) -> int:
        """Prompts handed to the model so far, warm-up left out."""
        return self.answering.model_calls

    def handlers(self) -> Any:
        """Return the generic gRPC handler; without request deserializers, so that the methods get bytes."""
        unary = grpc.unary_unary_rpc_method_handler
        route, route_batch, route_stream, describe_model = (
            observed(name, behaviour, self.metrics, self._tracing)
            for name, behaviour in (
                ("Route", self.route),
                ("RouteBatch", self.route_batch),
                ("RouteStream", self.route_stream),
                ("DescribeModel", self.describe_model),
            )
        )
        methods = {
            "Route": unary(route, response_serializer=pb.RouteResponse.SerializeToString),
            "RouteBatch": unary(route_batch, response_serializer=pb.RouteBatchResponse.SerializeToString),
            "RouteStream": grpc.stream_stream_rpc_method_handler(
                route_stream, response_serializer=pb.RouteStreamResponse.SerializeToString
            ),
            "DescribeModel": unary(describe_model, response_serializer=pb.DescribeModelResponse.SerializeToString),
        }
        return grpc.method_handlers_generic_handler(SERVICE_NAME, methods)

    async def warm_up(self) -> None:
        """Warm the model, then accept calls."""
        await self.answering.warm_up()
        self.is_warm = True
        self.metrics.serves([self.answering.bundle.manifest])
        self.metrics.ready(is_ready=True)

    def close(self) -> None:
        """Drop what waits for the model and let its thread end."""
        self.answering.close()

    async def route(self, raw: bytes, context: Any) -> Any:
        """Answer one `Route` call."""
        return await self._or_status(self._route(raw, context), context)

    async def route_batch(self, raw: bytes, context: Any) -> Any:
        """Answer one `RouteBatch` call; its items fail alone."""
        return await self._or_status(self._route_batch(raw, context), context)

    async def route_stream(self, requests: AsyncIterable[bytes], context: Any) -> None:
        """Answer one `RouteStream`, in the order of its requests; its items fail alone."""
        await self._or_status(self._route_stream(requests, context), context)

    async def describe_model(self, raw: bytes, context: Any) -> Any:
        """Answer one `DescribeModel` call; it needs no model, and so no place in the queue."""
        return await self._or_status(self._describe_model(raw), context)

    async def _or_status(self, answer: Awaitable[Any], context: Any) -> Any:
        """Return the answer; every failure becomes a status of the contract."""
        try:
            return await answer
        except Exception as error:  # noqa: BLE001  # whatever it is, its text must not reach the caller
            failure = failure_of(error)
        self.metrics.failed(failure.code)
        return await context.abort(failure.code, failure.message, failure.trailers)

    async def _route(self, raw: bytes, context: Any) -> Any:
        deadline_s = _deadline_s(context)
        self._check_warm()
        return await self.answering.answer(raw, deadline_s)

    async def _route_batch(self, raw: bytes, context: Any) -> Any:
        deadline_s = _deadline_s(context)
        self._check_warm()
        items = read_batch(raw, self._settings.max_batch_bytes, self._settings.max_batch_items)
        return batch_response(await self.answering.results(items, deadline_s))

    async def _route_stream(self, requests: AsyncIterable[bytes], context: Any) -> None:
        deadline_s = _deadline_s(context)
        self._check_warm()
        # Room is given back after the write, which waits for a caller that does not read: so does the reading.
        room = asyncio.Semaphore(self._settings.max_stream_items)
        in_order: asyncio.Queue[asyncio.Task[Any] | None] = asyncio.Queue()

        async def write_all() -> None:
            while (answering := await in_order.get()) is not None:
                await context.write(stream_response(await answering))
                room.release()

        async with asyncio.TaskGroup() as tasks:  # a stream that ends early takes its work along
            tasks.create_task(write_all())
            async for raw in requests:
                await room.acquire()
                in_order.put_nowait(tasks.create_task(self._stream_result(raw, deadline_s)))
            in_order.put_nowait(None)

    async def _stream_result(self, raw: bytes, deadline_s: float | None) -> Any:
        try:
            item = read_stream_item(raw)
        except InvalidRequest as error:
            self.metrics.failed(error.code)
            return failed_result("", failure_of(error))
        return await self.answering.result(item, deadline_s)

    async def _describe_model(self, raw: bytes) -> Any:
        self.answering.check_bundle(read_describe(raw))
        return description(self.answering.bundle.manifest)

    def _check_warm(self) -> None:
        if not self.is_warm:
            raise NotServing("the server is not warm yet; use another replica")


def _deadline_s(context: Any) -> float | None:
    """Return the caller's deadline on the monotonic clock; None without one."""
    remaining_s = context.time_remaining()
    return None if remaining_s is None else time.monotonic() + float(remaining_s)
