"""ext_proc beside Route, in turns against one server: the whole stream of an HTTP request, and its body message alone.

    python -m tests.bench.ext_proc

The same prompts go both ways, as the same JSON body; the client is gRPC's own, on one connection, one call at a time.
Absolute times on shared machines vary twofold; the ratios of one run hold.
"""

from __future__ import annotations

import argparse
import os
import platform
import queue
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc

from serving.pb import router_pb2 as pb
from serving.registry import find_bundle
from serving.wire import ROUTE_METHOD
from tests.bench.latency import WORDS
from tests.envoy import METHOD, buffered, chat, post
from tests.running import server_process

LENGTHS = (8, 32, 128, 512)
LIMIT = 1.5


def main() -> int:
    """Measure and print; 1 when a body message takes over 1.5 times a Route."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--bundle", type=Path)
    arguments.add_argument("--calls", type=int, default=400)
    given = arguments.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, {given.calls} calls of each kind in turns")
    with (
        tempfile.TemporaryDirectory() as scratch,
        server_process(find_bundle(given.bundle), Path(scratch) / "log", "--ext-proc", "rewrite") as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        ratios = [_compared(channel, n_words, given.calls) for n_words in LENGTHS]
    return int(max(ratios) > LIMIT)


def _compared(channel: Any, n_words: int, n_calls: int) -> float:
    """Print one line; return the ratio of the medians, body message to Route."""
    body = chat("auto", " ".join((WORDS * 30).split()[:n_words]))
    route = channel.unary_unary(ROUTE_METHOD)
    process = channel.stream_stream(METHOD)
    request = pb.RouteRequest(openai_body=body, request_id="r-1").SerializeToString()
    messages = [message.SerializeToString() for message in buffered(post(body))]
    times_ms: dict[str, list[float]] = {"Route": [], "stream": [], "body": []}
    for number in range(n_calls + 20):
        started_s = time.perf_counter()
        reply = route(request, timeout=5)
        took_ms = (time.perf_counter() - started_s) * 1e3
        stream_ms, body_ms = _streamed(process, messages)
        if number >= 20:  # the first ones warm up
            for name, value in zip(times_ms, (took_ms, stream_ms, body_ms), strict=True):
                times_ms[name].append(value)
    p50 = {name: statistics.median(values) for name, values in times_ms.items()}
    p99 = {name: statistics.quantiles(values, n=100)[98] for name, values in times_ms.items()}
    stage = pb.Stage.Name(pb.RouteResponse.FromString(reply).stage).removeprefix("STAGE_")
    shown = ", ".join(f"{name} {p50[name]:.2f} ms (p99 {p99[name]:.2f})" for name in times_ms)
    ratios = f"body / Route {p50['body'] / p50['Route']:.2f}, stream / Route {p50['stream'] / p50['Route']:.2f}"
    print(f"{n_words:4d} words, {stage:4s}: {shown}; {ratios}", flush=True)
    return p50["body"] / p50["Route"]


def _streamed(process: Any, messages: list[bytes]) -> tuple[float, float]:
    """Send headers and body as Envoy does, each after the answer to the one before; return both times in ms."""
    outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    started_s = time.perf_counter()
    replies = process(iter(outgoing.get, None), timeout=5)
    for message in messages:
        sent_s = time.perf_counter()
        outgoing.put(message)
        next(replies)
    body_ms = (time.perf_counter() - sent_s) * 1e3
    outgoing.put(None)
    for _ in replies:
        raise RuntimeError("an answer that nobody asked for")
    return (time.perf_counter() - started_s) * 1e3, body_ms


if __name__ == "__main__":
    sys.exit(main())
