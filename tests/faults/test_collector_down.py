"""A collector of spans that hangs, refuses or fails: a server that is told to stop ends as it does without one."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import grpc
import pytest

from tests.running import server_process
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.wire.route import ROUTE_METHOD

LAME_DUCK_S, GRACE_S = 0.5, 3.0
SLACK_S = 50.0
"""What a busy machine takes to end a process, and its supervisor."""
PATIENT_S = 60


@contextlib.contextmanager
def hanging() -> Iterator[int]:
    """Listen, and never answer."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener.getsockname()[1]


@contextlib.contextmanager
def refusing() -> Iterator[int]:
    """Give a port on which nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@contextlib.contextmanager
def overloaded() -> Iterator[int]:
    """Answer 503, which exporters repeat."""

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(503)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


async def call_until_ended(address: str, process) -> tuple[Counter, float]:
    """Route from four callers on connections of their own, stop the server; return codes after it, seconds to its end.

    A caller ends with the process: until then each of its calls is to be answered.
    """
    codes: Counter = Counter()
    stopped_s: list[float] = []

    async def caller() -> None:
        while process.poll() is None:
            async with grpc.aio.insecure_channel(address, options=(("grpc.use_local_subchannel_pool", 1),)) as channel:
                call = channel.unary_unary(ROUTE_METHOD, request_serializer=pb.RouteRequest.SerializeToString)
                try:
                    await call(pb.RouteRequest(text="hello"), timeout=PATIENT_S)
                    code = grpc.StatusCode.OK
                except grpc.aio.AioRpcError as error:
                    code = error.code()
            if stopped_s:
                codes[code] += 1
            await asyncio.sleep(0.02)

    callers = [asyncio.ensure_future(caller()) for _ in range(4)]
    await asyncio.sleep(1)
    stopped_s.append(time.monotonic())
    process.terminate()
    assert await asyncio.to_thread(process.wait, PATIENT_S) == 0
    took_s = time.monotonic() - stopped_s[0]
    await asyncio.gather(*callers)
    return codes, took_s


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("collector", [hanging, refusing, overloaded])
def test_the_end_comes_in_time_and_no_caller_waits_in_vain(
    bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, collector, workers: int
):
    with collector() as port:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
        options = ("--grace-s", GRACE_S)
        with server_process(
            bundle_folder, tmp_path / "stderr.log", *options, workers=workers, lame_duck_s=LAME_DUCK_S
        ) as server:
            codes, took_s = asyncio.run(call_until_ended(server.address, server.process))
    assert set(codes) <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    assert codes[grpc.StatusCode.OK] > 0
    assert LAME_DUCK_S <= took_s < LAME_DUCK_S + GRACE_S + SLACK_S
