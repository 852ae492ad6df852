"""The handlers of RouterService: bytes of a request in, a response or a status of the contract out.

Handlers get bytes, not messages, so that size and decoding errors are answered by us and not by the
library (which would say UNKNOWN, with the parser's text).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Any

import grpc

from turnout.serving.decision.decision import NO_RULES
from turnout.serving.decision.rules.rules import Rules
from turnout.serving.errors import InvalidRequest, NotServing
from turnout.serving.observe.calls import Behaviour, observed
from turnout.serving.observe.drift.promises import Promises
from turnout.serving.observe.drift.watch import DriftWatch
from turnout.serving.observe.tracing import Tracing
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.service.answering import Answering
from turnout.serving.service.checking import Checking
from turnout.serving.service.describe import description, read_describe
from turnout.serving.service.items import (
    batch_response,
    check_stream_response,
    failed_result,
    read_batch,
    read_stream_item,
    stream_response,
)
from turnout.serving.service.lifecycle import Lifecycle
from turnout.serving.service.outcomes import OutcomeIntake
from turnout.serving.service.status import failure_of
from turnout.serving.settings import ServerSettings
from turnout.serving.spool.writer import CLOSE_S
from turnout.serving.wire.route import SERVICE_NAME

Answer = Callable[[bytes, float | None], Awaitable[Any]]
"""From the bytes of one item and a deadline to its result."""


class RouterService:
    """The RPCs over one `Answering`.

    Attributes:
        is_warm: whether calls are answered; UNAVAILABLE until `warm_up` is done, and after `refuse`.
        is_ready: whether callers are to come; no longer after `retire`, though calls are still answered.
        is_draining: whether `retire` was called.
        n_calls: calls that are being answered, refusals among them.
        answering: the path of every request, with queue and model thread.
        checking: the path of every answer that is checked, over the same queue and thread.
        outcomes: the path of every outcome, with its spool.
        decision_log: where decisions go, into the same spool; None when they are not kept.
        metrics: what this worker counts.
        drift: what it notes of its traffic.
        promises: what came of it, and which thresholds hold now.
    """

    def __init__(
        self,
        lifecycle: Lifecycle,
        settings: ServerSettings,
        rules: Callable[[], Rules] = lambda: NO_RULES,
        tracing: Tracing | None = None,
    ) -> None:
        """Take the bundles to answer from, the limits, where to find the rules in force, and what traces calls."""
        self.is_warm = False
        self.is_ready = self.is_draining = False
        self.n_calls = 0
        self.metrics = lifecycle.metrics
        self.promises = Promises(self.metrics, settings.spool, tightens=settings.tighten)
        awaits = settings.spool is not None
        self.drift = DriftWatch(self.metrics, awaits_outcomes=awaits, on_pair=self.promises.judged)
        self.outcomes = OutcomeIntake(settings, self.drift.reported)
        self.decision_log = self.outcomes.decision_log(settings)
        self.answering = Answering(lifecycle, settings, rules, self.decision_log, self.drift, self.promises)
        self.checking = Checking(self.answering, settings, rules)
        self._tracing = tracing
        self._settings = settings

    @property
    def model_calls(self) -> int:
        """Prompts handed to the model so far, warm-up left out."""
        return self.answering.model_calls

    def handlers(self) -> Any:
        """Return the generic gRPC handler; without request deserializers, so that the methods get bytes."""
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
        behaviours: dict[str, tuple[Any, Behaviour, Any]] = {
            "Route": (unary, self.route, pb.RouteResponse),
            "RouteBatch": (unary, self.route_batch, pb.RouteBatchResponse),
            "RouteStream": (stream, self.route_stream, pb.RouteStreamResponse),
            "Check": (unary, self.check, pb.CheckResponse),
            "CheckBatch": (unary, self.check_batch, pb.CheckBatchResponse),
            "CheckStream": (stream, self.check_stream, pb.CheckStreamResponse),
            "ReportOutcome": (unary, self.report_outcome, pb.ReportOutcomeResponse),
            "DescribeModel": (unary, self.describe_model, pb.DescribeModelResponse),
        }
        methods = {
            name: kind(self.watched(name, behaviour), response_serializer=reply.SerializeToString)
            for name, (kind, behaviour, reply) in behaviours.items()
        }
        return grpc.method_handlers_generic_handler(SERVICE_NAME, methods)

    def watched(self, method: str, behaviour: Behaviour) -> Behaviour:
        """Return the handler of a call, counted and traced under this name; gateways bring handlers of their own."""
        return observed(method, behaviour, self.metrics, self._tracing)

    async def warm_up(self) -> None:
        """Warm all bundles up, then accept calls."""
        await self.answering.lifecycle.warm_up()
        self.is_warm = True
        self.ready(is_ready=True)

    def ready(self, *, is_ready: bool) -> None:
        """Say whether callers are to come; what comes all the same is answered as far as it can be."""
        self.is_ready = is_ready
        self.metrics.ready(is_ready=is_ready)

    def retire(self) -> None:
        """Say that no more callers are to come, ever."""
        self.is_draining = True
        self.ready(is_ready=False)

    def refuse(self) -> None:
        """Answer calls that are in flight, and new ones with UNAVAILABLE."""
        self.is_warm = False

    def close(self, within_s: float = CLOSE_S) -> None:
        """Drop what waits for the model, write what waits for the disk, and let all threads end.

        What the disk has not taken within `within_s` is given up, and counted so.
        """
        ends_s = time.monotonic() + within_s
        self.answering.close()
        log = self.decision_log
        if log is not None:
            log.close(0.5 * within_s)
        self.outcomes.close(max(0.0, ends_s - time.monotonic()))
        if log is not None:
            log.settle()
            self.metrics.logged(log.written, log.dropped, log.untaught)

    async def route(self, raw: bytes, context: Any) -> Any:
        """Answer one `Route` call."""
        return await self.or_status(self.decide(raw, deadline_of(context)), context)

    async def route_batch(self, raw: bytes, context: Any) -> Any:
        """Answer one `RouteBatch` call; its items fail alone."""
        return await self.or_status(self._route_batch(raw, context), context)

    async def route_stream(self, requests: AsyncIterable[bytes], context: Any) -> None:
        """Answer one `RouteStream`, in the order of its requests; its items fail alone."""
        answer = self._stream(requests, context, self.answering.result, stream_response)
        await self.or_status(answer, context)

    async def check(self, raw: bytes, context: Any) -> Any:
        """Answer one `Check` call."""
        return await self.or_status(self.judge(raw, deadline_of(context)), context)

    async def check_batch(self, raw: bytes, context: Any) -> Any:
        """Answer one `CheckBatch` call; its items fail alone."""
        return await self.or_status(self._check_batch(raw, context), context)

    async def check_stream(self, requests: AsyncIterable[bytes], context: Any) -> None:
        """Answer one `CheckStream`, in the order of its requests; its items fail alone."""
        answer = self._stream(requests, context, self.checking.result, check_stream_response)
        await self.or_status(answer, context)

    async def report_outcome(self, raw: bytes, context: Any) -> Any:
        """Answer one `ReportOutcome` call; it needs no model, and waits for the disk alone."""
        return await self.or_status(self.outcomes.take_in(raw, deadline_of(context)), context)

    async def describe_model(self, raw: bytes, context: Any) -> Any:
        """Answer one `DescribeModel` call; it needs no model, and so no place in the queue."""
        return await self.or_status(self._describe_model(raw), context)

    async def or_status(self, answer: Awaitable[Any], context: Any) -> Any:
        """Return the answer; every failure becomes a status of the contract."""
        self.n_calls += 1
        try:
            return await answer
        except Exception as error:  # noqa: BLE001  # whatever it is, its text must not reach the caller
            failure = failure_of(error)
        finally:
            self.n_calls -= 1
        self.metrics.failed(failure.code)
        return await context.abort(failure.code, failure.message, failure.trailers(context.invocation_metadata() or ()))

    async def decide(self, raw: bytes, deadline_s: float | None) -> Any:
        """Return the `RouteResponse` to the bytes of one `RouteRequest`, whatever protocol it came over.

        Args:
            raw: the bytes.
            deadline_s: when the caller stops waiting, on the monotonic clock; None for never.

        Raises:
            RequestError: any of them; another exception is a fault of ours. `or_status` makes statuses of both.
        """
        self.check_warm()
        return await self.answering.answer(raw, deadline_s)

    async def judge(self, raw: bytes, deadline_s: float | None) -> Any:
        """Return the `CheckResponse` to the bytes of one `CheckRequest`; as `decide`."""
        self.check_warm()
        return await self.checking.check(raw, deadline_s)

    async def _check_batch(self, raw: bytes, context: Any) -> Any:
        deadline_s = deadline_of(context)
        self.check_warm()
        items = read_batch(raw, self._settings.max_batch_bytes, self._settings.max_batch_items, "CheckBatchRequest")
        return pb.CheckBatchResponse(results=await self.checking.results(items, deadline_s))

    async def _route_batch(self, raw: bytes, context: Any) -> Any:
        deadline_s = deadline_of(context)
        self.check_warm()
        items = read_batch(raw, self._settings.max_batch_bytes, self._settings.max_batch_items)
        return batch_response(await self.answering.results(items, deadline_s))

    async def _stream(
        self, requests: AsyncIterable[bytes], context: Any, answer: Answer, write: Callable[[Any], Any]
    ) -> None:
        deadline_s = deadline_of(context)
        self.check_warm()
        # Room is given back after the write, which waits for a caller that does not read: so does the reading.
        room = asyncio.Semaphore(self._settings.max_stream_items)
        in_order: asyncio.Queue[asyncio.Task[Any] | None] = asyncio.Queue()

        async def write_all() -> None:
            while (answering := await in_order.get()) is not None:
                await context.write(write(await answering))
                room.release()

        age_s = self._settings.max_connection_age_s
        life_s = age_s * random.uniform(0.9, 1.1) if age_s else None  # noqa: S311  # spread as gRPC spreads connections
        is_old = False
        async with asyncio.TaskGroup() as tasks:  # a stream that ends early takes its work along
            tasks.create_task(write_all())
            try:
                async with asyncio.timeout(life_s):
                    async for raw in requests:
                        await room.acquire()
                        in_order.put_nowait(tasks.create_task(self._stream_result(raw, deadline_s, answer)))
            except TimeoutError:
                is_old = True
            in_order.put_nowait(None)
        if is_old:
            raise NotServing("the stream has reached its age; open another, and send again what has no result")

    async def _stream_result(self, raw: bytes, deadline_s: float | None, answer: Answer) -> Any:
        try:
            item = read_stream_item(raw)
        except InvalidRequest as error:
            failure = failure_of(error)
            self.metrics.failed(failure.code)
            failed = failed_result("", failure)
            return failed if answer == self.answering.result else pb.CheckResult(failure=failed.failure)
        return await answer(item, deadline_s)

    async def _describe_model(self, raw: bytes) -> Any:
        lineup = self.answering.lifecycle.lineup
        served = [one.manifest.bundle_id for one in lineup.served]
        found = lineup.find(read_describe(raw))
        return description(
            found.manifest, served, found.bundle.unseen, has_second_look=found.bundle.checker is not None
        )

    def check_warm(self) -> None:
        """Raise `NotServing` before the model is warm, and while the server ends."""
        if not self.is_warm:
            raise NotServing("the server is not warm yet, or is ending; use another replica")


def deadline_of(context: Any) -> float | None:
    """Return the caller's deadline on the monotonic clock; None without one."""
    remaining_s = context.time_remaining()
    return None if remaining_s is None else time.monotonic() + float(remaining_s)
