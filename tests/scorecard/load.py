"""Load from a process of its own: calls at intended instants (open loop), or callers that wait (closed loop).

Run as `python -m tests.scorecard.load`: a `Plan` as JSON on standard input, a `Load` as JSON on standard output. In an
open loop a slow server does not slow the load down, and latency counts from the instant at which the call was meant to
be sent: what coordinated omission would hide is in the figures.
"""

from __future__ import annotations

import asyncio
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import grpc
import msgspec
import uvloop

from turnout.serving.pb import router_pb2 as pb
from turnout.serving.wire.route import ROUTE_METHOD


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to send.

    Attributes:
        targets: addresses; a call that ends UNAVAILABLE is tried once on each of the others.
        rate: calls a second at seeded exponential gaps; 0 for a closed loop of `callers`.
        callers: of the closed loop.
        seconds: how long.
        texts: prompts, taken in a seeded random order.
        threshold: of every call; None for the default policy.
        timeout_s: deadline of a call.
        channels: connections to each target: workers share connections, not calls.
        cancel_share: share of the calls that is cancelled at a random instant within 10 ms.
    """

    targets: list[str]
    texts: list[str]
    seconds: float
    rate: float = 0.0
    callers: int = 16
    threshold: float | None = None
    timeout_s: float = 5.0
    channels: int = 4
    seed: int = 0
    cancel_share: float = 0.0


class Load(msgspec.Struct, frozen=True):
    """What became of it.

    Attributes:
        codes: calls by gRPC code; their sum is all that was sent.
        latency_ms: of the calls that were answered, in the order of their sending.
        refused_ms: of those refused with RESOURCE_EXHAUSTED.
        sent_s: when each answered call was meant to be sent, since the start.
        bundles: answers by bundle, prompt and p_match, as `bundle number-of-the-text p_match`.
        wall_s: from the first to the last.
        late_ms: 99th percentile of how much later than meant the calls left: the load's own lag, part of the latency.
        cpu_s: what this process took of the cores that it shares with the server.
        beside_model_ms: median over the calls that were answered of their time less what the model itself took; None
            without any.
        retried: calls that met UNAVAILABLE and were answered by another target.
    """

    codes: dict[str, int]
    latency_ms: list[float]
    refused_ms: list[float]
    sent_s: list[float]
    bundles: dict[str, int]
    wall_s: float
    late_ms: float
    cpu_s: float
    beside_model_ms: float | None
    retried: int

    @property
    def sent(self) -> int:
        """Calls sent."""
        return sum(self.codes.values())

    @property
    def ok(self) -> int:
        """Calls answered."""
        return self.codes.get("OK", 0)

    def percentile_ms(self, percent: int, since_s: float = 0.0) -> float:
        """Return a percentile, 1 to 99, of the latency of the calls sent since `since_s`; infinite without any."""
        return percentile(
            [ms for ms, sent_s in zip(self.latency_ms, self.sent_s, strict=True) if sent_s >= since_s], percent
        )


def percentile(values: list[float], percent: int) -> float:
    """Return a percentile, 1 to 99; infinite of fewer than two values."""
    return statistics.quantiles(values, n=100)[percent - 1] if len(values) > 1 else float("inf")


def start(plan: Plan) -> subprocess.Popen[bytes]:
    """Start the load in its own process; `finish` waits for it."""
    process = subprocess.Popen([sys.executable, "-m", "tests.scorecard.load"], stdin=-1, stdout=-1)
    process.stdin.write(msgspec.json.encode(plan))
    process.stdin.close()
    process.stdin = None
    return process


def finish(process: subprocess.Popen[bytes], *, at_once: bool = False) -> Load:
    """Wait for the load, or have it end with the calls in flight, and return what became of it."""
    if at_once:
        process.terminate()
    printed, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the load ended with exit code {process.returncode}")
    return msgspec.json.decode(printed, type=Load)


def drive(plan: Plan) -> Load:
    """Send the load from its own process and wait for it."""
    return finish(start(plan))


class Caller:
    """Sends the calls of a plan and counts what becomes of them."""

    def __init__(self, plan: Plan, stubs: list[list[Callable]]) -> None:
        self.plan = plan
        self.stubs = stubs
        self.dice = random.Random(plan.seed)
        self.codes: Counter[str] = Counter()
        self.bundles: Counter[str] = Counter()
        self.answered: list[tuple[float, float]] = []
        self.refused_ms: list[float] = []
        self.late_ms: list[float] = []
        self.beside_model_ms: list[float] = []
        self.retried = 0
        self._raw = [self._request(text) for text in plan.texts]
        self.started = time.perf_counter()
        self.until = self.started + plan.seconds

    def end(self) -> None:
        """Begin no more calls."""
        self.until = 0.0

    def _request(self, text: str) -> bytes:
        request = pb.RouteRequest(text=text)
        if self.plan.threshold is not None:
            request.threshold = self.plan.threshold
        return request.SerializeToString()

    async def one(self, intended: float) -> None:
        self.late_ms.append((time.perf_counter() - intended) * 1e3)
        text = self.dice.randrange(len(self._raw))
        first = self.dice.randrange(len(self.stubs))
        code = "UNAVAILABLE"
        for target in range(len(self.stubs)):
            stub = self.dice.choice(self.stubs[(first + target) % len(self.stubs)])
            code = await self._call(stub, text, intended)
            if code != "UNAVAILABLE":
                self.retried += target > 0
                break
        self.codes[code] += 1

    async def _call(self, stub: Callable, text: int, intended: float) -> str:
        call = stub(self._raw[text], timeout=self.plan.timeout_s)
        if self.dice.random() < self.plan.cancel_share:
            asyncio.get_running_loop().call_later(self.dice.uniform(0, 0.01), call.cancel)
        try:
            reply = await call
        except asyncio.CancelledError:
            return "CANCELLED"
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                self.refused_ms.append((time.perf_counter() - intended) * 1e3)
            return str(error.code().name)
        took_ms = (time.perf_counter() - intended) * 1e3
        self.answered.append((intended - self.started, took_ms))
        self.beside_model_ms.append(took_ms - reply.timings.model_ns / 1e6)
        self.bundles[f"{reply.bundle} {text} {reply.p_match!r}"] += 1
        return "OK"

    async def run(self) -> Load:
        cpu_s = time.process_time()
        await (self._open_loop() if self.plan.rate else self._closed_loop())
        self.answered.sort()
        return Load(
            codes=dict(self.codes),
            latency_ms=[ms for _, ms in self.answered],
            refused_ms=self.refused_ms,
            sent_s=[sent_s for sent_s, _ in self.answered],
            bundles=dict(self.bundles),
            wall_s=time.perf_counter() - self.started,
            late_ms=percentile(self.late_ms, 99),
            cpu_s=time.process_time() - cpu_s,
            beside_model_ms=percentile(self.beside_model_ms, 50),
            retried=self.retried,
        )

    async def _open_loop(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            async for intended in self._instants():
                tasks.create_task(self.one(intended))

    async def _instants(self) -> AsyncIterator[float]:
        intended = self.started
        while (intended := intended + self.dice.expovariate(self.plan.rate)) < self.until:
            if (wait_s := intended - time.perf_counter()) > 0:
                await asyncio.sleep(wait_s)
            yield intended

    async def _closed_loop(self) -> None:
        async def caller() -> None:
            while (now := time.perf_counter()) < self.until:
                await self.one(now)

        await asyncio.gather(*(caller() for _ in range(self.plan.callers)))


async def _send(plan: Plan) -> Load:
    async with AsyncExitStack() as stack:
        stubs = [[await _stub(stack, target) for _ in range(plan.channels)] for target in plan.targets]
        caller = Caller(plan, stubs)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, caller.end)
        return await caller.run()


async def _stub(stack: AsyncExitStack, target: str) -> Callable[..., Awaitable]:
    # Without an own pool all channels to one address share one connection, and with it one worker.
    options = (
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_retries", 0),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 500),
    )
    channel = await stack.enter_async_context(grpc.aio.insecure_channel(target, options=options))
    await channel.channel_ready()
    return channel.unary_unary(ROUTE_METHOD, response_deserializer=pb.RouteResponse.FromString)


if __name__ == "__main__":
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    with open(1, "wb", closefd=False) as printed:  # with PYTHONUNBUFFERED sys.stdout writes in part
        printed.write(msgspec.json.encode(uvloop.run(_send(plan))))
