"""Around every handler: counts the call, times it, and holds its span open.

handler of a call -> observed(...) -> the same handler, seen from outside
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from turnout.serving.observe.correlation import within
from turnout.serving.observe.metrics import ServerMetrics
from turnout.serving.observe.tracing import Tracing, describe_answer, describe_end

Behaviour = Callable[[Any, Any], Awaitable[Any]]

ONE_REQUEST = frozenset({"Route", "Check", "http.route", "http.check", "http.systemone"})
"""Calls that are one request each: given up by their caller, they are counted as failed here."""
DEADLINE_ROUNDING = 0.01
"""Callers send deadlines of a second or more rounded up by at most this share: theirs passes before the one seen here,
and without it all such calls would count as CANCELLED."""
CODES = {code.value[0]: code for code in grpc.StatusCode}


def observed(method: str, behaviour: Behaviour, metrics: ServerMetrics, tracing: Tracing | None = None) -> Behaviour:
    """Return a handler that does what `behaviour` does, and counts it.

    Args:
        method: short name of the RPC, or of the call over HTTP.
        behaviour: coroutine function of an asyncio gRPC handler; what streams writes to its context itself.
        metrics: where it is counted.
        tracing: makes the spans; None for none, and then nothing of it is on the call's path.
    """

    async def counted(request: Any, context: Any) -> Any:
        started_ns = time.perf_counter_ns()
        metrics.began()
        within(context)
        number = 0
        try:
            return await behaviour(request, context)
        except BaseException as error:
            number = status_number(error, context, started_ns)
            if method in ONE_REQUEST and isinstance(error, asyncio.CancelledError):
                metrics.failed(CODES[number])  # nobody further in saw it fail
            raise
        finally:
            metrics.answered(method, CODES[number].name, (time.perf_counter_ns() - started_ns) / 1e9)

    return counted if tracing is None else _traced(method, counted, tracing)


def status_number(error: BaseException, context: Any, started_ns: int) -> int:
    """Return the number of the gRPC status with which a call, begun then, ends that a handler left by an exception."""
    if isinstance(error, asyncio.CancelledError):  # by the caller, or by the library when the deadline passed
        remaining_s = context.time_remaining()
        passed_s = (time.perf_counter_ns() - started_ns) / 1e9
        expired = remaining_s is not None and remaining_s <= DEADLINE_ROUNDING * (passed_s + remaining_s)
        return _number(grpc.StatusCode.DEADLINE_EXCEEDED if expired else grpc.StatusCode.CANCELLED)
    return _number(context.code()) or _number(grpc.StatusCode.UNKNOWN)


def _number(code: Any) -> int:
    return int(code.value[0] if isinstance(code, grpc.StatusCode) else code or 0)


def _traced(method: str, behaviour: Behaviour, tracing: Tracing) -> Behaviour:
    async def traced(request: Any, context: Any) -> Any:
        started_ns = time.perf_counter_ns()
        with tracing.span(method, context.invocation_metadata()) as span:
            try:
                reply = await behaviour(request, context)
            except BaseException as error:
                number = status_number(error, context, started_ns)
                describe_end(span, CODES[number])
                raise
            describe_answer(span, reply)
            describe_end(span, grpc.StatusCode.OK)
            return reply

    return traced
