"""ext_proc beside Route, in turns against one server, with the same JSON bodies.

    python -m tests.bench.ext_proc

Three ways of one HTTP request: `body`, from the body message to its answer, which is what Envoy's `message_timeout`
limits; `stream`, all of it, from opening the stream over headers and body to its end; `no headers`, the same where
Envoy is told to skip the headers. One asyncio client on one connection, one call at a time. Absolute times on shared
machines vary twofold; the ratios of one run hold.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import grpc
import uvloop

from tests.bench.latency import WORDS
from tests.envoy import METHOD, buffered, chat, post
from tests.running import server_process
from turnout.serving.bundles.registry import find_bundle
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.wire.route import ROUTE_METHOD

LENGTHS = (8, 32, 128, 512)
LIMIT = 1.5
N_WARM_UP = 20


def main() -> int:
    """Measure and print; 1 when a body message takes over 1.5 times a Route."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--bundle", type=Path)
    arguments.add_argument("--calls", type=int, default=400)
    given = arguments.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, p50 of {given.calls} calls of each kind, in turns")
    folder = find_bundle(given.bundle)
    with tempfile.TemporaryDirectory() as scratch:
        ratios = []
        for stage, option in (("FAST", "--early-exit"), ("FULL", "--no-early-exit")):
            log = Path(scratch) / f"{stage}.log"
            with server_process(folder, log, "--ext-proc", "rewrite", option) as server:
                ratios += uvloop.run(_compared(server.address, stage, given.calls))
    return int(max(ratios) > LIMIT)


async def _compared(address: str, stage: str, n_calls: int) -> list[float]:
    """Print a line for each length; return the ratios of the medians, body message to Route."""
    ratios = []
    async with grpc.aio.insecure_channel(address) as channel:
        for n_words in LENGTHS:
            times_ms = await _times(channel, chat("auto", " ".join((WORDS * 30).split()[:n_words])), n_calls)
            p50 = {name: statistics.median(values) for name, values in times_ms.items()}
            shown = ", ".join(f"{name} {value:.2f} ms ({value / p50['Route']:.2f})" for name, value in p50.items())
            print(f"{stage:4s} {n_words:4d} words: {shown}", flush=True)
            ratios.append(p50["body"] / p50["Route"])
    return ratios


async def _times(channel: Any, body: bytes, n_calls: int) -> dict[str, list[float]]:
    route, process = channel.unary_unary(ROUTE_METHOD), channel.stream_stream(METHOD)
    request = pb.RouteRequest(openai_body=body, request_id="r-1").SerializeToString()
    with_headers = [message.SerializeToString() for message in buffered(post(body))]
    without = [message.SerializeToString() for message in buffered(post(body), skip_headers=True)]
    times_ms = defaultdict(list)
    for number in range(n_calls + N_WARM_UP):
        started_s = time.perf_counter()
        await route(request, timeout=5)
        taken = {"Route": (time.perf_counter() - started_s) * 1e3}
        taken["stream"], taken["body"] = await _streamed(process, with_headers)
        taken["no headers"], _ = await _streamed(process, without)
        if number >= N_WARM_UP:
            for name, value in taken.items():
                times_ms[name].append(value)
    return times_ms


async def _streamed(process: Any, messages: list[bytes]) -> tuple[float, float]:
    """Send messages as Envoy does, each after the answer to the last; return the ms of all, and of the last one."""
    started_s = time.perf_counter()
    call = process(timeout=5)
    for message in messages:
        sent_s = time.perf_counter()
        await call.write(message)
        await call.read()
    last_ms = (time.perf_counter() - sent_s) * 1e3
    await call.done_writing()
    if await call.read() is not grpc.aio.EOF:
        raise RuntimeError("an answer that nobody asked for")
    return (time.perf_counter() - started_s) * 1e3, last_ms


if __name__ == "__main__":
    sys.exit(main())
