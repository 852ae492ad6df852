"""What it costs to count one Route call: by itself, in one process and with shared files, and with a span.

    python -m tests.bench.metrics

The variants take turns within one run; the figures are the medians of the rounds.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.trace import TracerProvider

from turnout.serving.decision.decision import Decision, Reason, Route
from turnout.serving.observe.calls import observed
from turnout.serving.observe.catalog import FOLDER_VARIABLE
from turnout.serving.observe.metrics import ServerMetrics
from turnout.serving.observe.tracing import Tracing
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.router.model import Stage
from turnout.serving.wire.route import Timings

ROUNDS, CALLS = 15, 5_000
DECISION = Decision(Route.WEAK, "gpt-4o-mini", 0.93, 0.93, 0.75, "max_worse=0.01", Reason.MODEL, Stage.FAST)
TIMINGS = Timings(60_000, 20_000, 300_000)
REPLY = pb.RouteResponse(tier=pb.TIER_WEAK, model="gpt-4o-mini", reason=pb.REASON_MODEL, stage=pb.STAGE_FAST)


class Context:
    """What the wrappers ask of a call that ends well."""

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return (("user-agent", "grpc-python-asyncio/1.85.1"),)


async def bare(request: Any, context: Any) -> Any:
    """Answer at once."""
    del request, context
    return REPLY


def handlers() -> dict[str, Any]:
    """Return the handlers to compare, by name."""
    metrics = ServerMetrics()

    async def decided(request: Any, context: Any) -> Any:
        metrics.decided(DECISION, "name/version", TIMINGS)
        return await bare(request, context)

    return {
        "no counting": bare,
        "call counted": observed("Route", bare, metrics),
        "call and decision counted": observed("Route", decided, metrics),
        "the same with a span": observed("Route", decided, metrics, Tracing(TracerProvider(shutdown_on_exit=False))),
    }


async def seconds_a_call(handler: Callable[[Any, Any], Any]) -> float:
    """Return the time of one call, of many after each other."""
    context = Context()
    started = time.perf_counter()
    for _ in range(CALLS):
        await handler(b"", context)
    return (time.perf_counter() - started) / CALLS


def measure() -> None:
    """Print the microseconds of each variant above the bare handler."""
    compared = handlers()
    taken: dict[str, list[float]] = {name: [] for name in compared}
    for _ in range(ROUNDS):
        for name, handler in compared.items():
            taken[name].append(asyncio.run(seconds_a_call(handler)))
    base = statistics.median(taken["no counting"])
    for name, seconds in taken.items():
        print(f"  {name:28s} {1e6 * (statistics.median(seconds) - base):6.2f} us")


def main() -> None:
    """Measure in a process of its own for each way of sharing."""
    if len(sys.argv) > 1:
        measure()
        return
    with tempfile.TemporaryDirectory() as folder:
        for name, environment in (("one process", {}), ("shared files", {FOLDER_VARIABLE: folder})):
            print(f"{name}:", flush=True)
            subprocess.run([sys.executable, "-m", __spec__.name, "here"], check=True, env=os.environ | environment)


if __name__ == "__main__":
    main()
