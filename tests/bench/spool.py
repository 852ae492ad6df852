"""Outcomes a second with an fsync before each answer, and Route beside that load, in turns of one run.

    python -m tests.bench.spool --folder /some/disk

The control is the same load of `Health/Check` calls, the cheapest that the same server answers: what it
does to Route is the price of that many calls on one event loop, not of the spool. One server process;
the load and the Route calls come from two other processes over their own connections.
Absolute figures on shared machines vary twofold; the ratios of one run hold.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import re
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from tests.running import server_process
from turnout.serving.bundles.registry import find_bundle
from turnout.serving.client import Router
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.spool.framing import RecordKind
from turnout.serving.spool.outcome import Outcome, encode_outcome
from turnout.serving.spool.writer import SpoolLimits, SpoolWriter
from turnout.serving.wire.route import REPORT_OUTCOME_METHOD

TEXT = "the ferry leaves the northern pier at noon and seven red lamps light every quiet street of our old town"
FIELDS = {
    "request_id": "a" * 32,
    "model": "gpt-4o-mini",
    "score": 1.0,
    "prompt_tokens": 900,
    "completion_tokens": 200,
    "latency_ms": 800.0,
    "bundle": "champion/1",
    "tenant": "acme",
    "session_id": "b" * 32,
}


HEALTH_METHOD = "/grpc.health.v1.Health/Check"


@dataclass(frozen=True)
class Load:
    """Calls of a method from another process, `rate` a second: 0 for as many as are answered, None for none."""

    name: str
    method: str
    rate: int | None

    @property
    def raw(self) -> bytes:
        """Bytes of one request."""
        return pb.ReportOutcomeRequest(**FIELDS).SerializeToString() if self.method == REPORT_OUTCOME_METHOD else b""


LOADS = (
    Load("none", HEALTH_METHOD, None),
    Load("200 outcomes/s", REPORT_OUTCOME_METHOD, 200),
    Load("1,000 outcomes/s", REPORT_OUTCOME_METHOD, 1000),
    Load("1,000 health checks/s", HEALTH_METHOD, 1000),
    Load("outcomes, no pause", REPORT_OUTCOME_METHOD, 0),
    Load("health checks, no pause", HEALTH_METHOD, 0),
)


@dataclass(frozen=True)
class Turn:
    """One turn: the load, calls/s of that load, Route p50 and p99 in ms."""

    load: Load
    calls_per_s: float
    route_p50_ms: float
    route_p99_ms: float


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--bundle", type=Path)
    arguments.add_argument("--folder", type=Path, help="where the spool goes; its disk is what is measured")
    arguments.add_argument("--seconds", type=float, default=4.0)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--callers", type=int, default=64)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        print(f"{os.cpu_count()} cores; median of {given.rounds} turns of {given.seconds:g} s each")
        _print_one_by_one(Path(folder) / "one")
        log = Path(folder) / "stderr.log"
        with server_process(find_bundle(given.bundle), log, spool=Path(folder) / "spool") as server:
            turns = [
                measure(server.address, load, given.seconds, given.callers)
                for _ in range(given.rounds)
                for load in LOADS
            ]
            server.process.terminate()
            server.wait()
        _print_turns(turns)
        print(re.search(r"spool: \d+ records.*", log.read_text())[0])


def measure(address: str, load: Load, seconds: float, callers: int) -> Turn:
    """Time `Route` calls, one after the other, beside a load from another process."""
    context = multiprocessing.get_context("spawn")
    n_answered = context.Value("q", 0)
    started = context.Event()
    loading = context.Process(target=send, args=(address, load, seconds, callers, n_answered, started))
    loading.start()
    started.wait()
    times_ms = []
    with Router(address, timeout_s=10) as router:
        ends_s = time.perf_counter() + seconds
        while time.perf_counter() < ends_s:
            routed = router.route(text=TEXT)
            times_ms.append(routed.latency_ms)
            time.sleep(0.002)  # a gateway with some calls a second, not one that takes a core
    loading.join()
    percentiles = statistics.quantiles(times_ms, n=100)
    return Turn(load, n_answered.value / seconds, percentiles[49], percentiles[98])


def send(address: str, load: Load, seconds: float, callers: int, n_answered: Any, started: Any) -> None:
    """Send the load for some seconds and count the answers."""

    async def run() -> int:
        async with grpc.aio.insecure_channel(address) as channel:
            call = channel.unary_unary(load.method)
            await call(load.raw)
            started.set()
            if load.rate is None:
                await asyncio.sleep(seconds)
                return 0
            ends_s = time.perf_counter() + seconds
            one = (call, load.raw, load.rate / callers, ends_s)
            return sum(await asyncio.gather(*(_caller(*one) for _ in range(callers))))

    n_answered.value = asyncio.run(run())


async def _caller(call: Any, raw: bytes, rate: float, ends_s: float) -> int:
    n_done = 0
    begun_s = time.perf_counter()
    while time.perf_counter() < ends_s:
        await call(raw)
        n_done += 1
        if rate:
            await asyncio.sleep(max(0.0, begun_s + n_done / rate - time.perf_counter()))
    return n_done


def _print_one_by_one(folder: Path) -> None:
    """Print what the disk gives without sharing fsyncs, and the writer alone, in this process."""
    writer = SpoolWriter(folder, SpoolLimits())
    payload = encode_outcome(Outcome(received_s=time.time(), **FIELDS))
    started_s = time.perf_counter()
    for _ in range(500):
        writer.append(RecordKind.OUTCOME, payload).result()
    one_by_one = 500 / (time.perf_counter() - started_s)
    started_s = time.perf_counter()
    for _ in range(25):
        futures = [writer.append(RecordKind.OUTCOME, payload) for _ in range(2_000)]
        futures[-1].result()
    together = 50_000 / (time.perf_counter() - started_s)
    writer.close()
    print(
        f"writer alone, {len(payload)} bytes a payload: {one_by_one:,.0f}/s one at a time, {together:,.0f}/s together"
    )


def _print_turns(turns: list[Turn]) -> None:
    print(f"{'load':24s}   answers/s   Route p50 ms   Route p99 ms")
    for load in LOADS:
        same = [turn for turn in turns if turn.load == load]
        middle = [
            statistics.median(getattr(turn, figure) for turn in same)
            for figure in ("calls_per_s", "route_p50_ms", "route_p99_ms")
        ]
        print(f"{load.name:24s} {middle[0]:11,.0f} {middle[1]:14.2f} {middle[2]:14.2f}")


if __name__ == "__main__":
    sys.exit(main())
