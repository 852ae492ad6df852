"""A real server for tests, in a process of its own or in the test's event loop, and raw calls to it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from turnout.serving.bundles.bundle import Bundle
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.server.running import RouterServer
from turnout.serving.service.lifecycle import Lifecycle
from turnout.serving.settings import ServerSettings, Sources
from turnout.serving.wire.route import ROUTE_METHOD, SERVICE_NAME

ANY_PORT = "127.0.0.1:0"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def serve_command(
    folder: Path,
    listen: str = ANY_PORT,
    *options: object,
    lame_duck_s: float = 0.2,
    reflection: bool = False,
    workers: int = 0,
    spool: Path | None = None,
) -> list[str]:
    """Return the command line of a server; in one process unless told how many workers, which starts sooner."""
    command = [
        sys.executable,
        "-m",
        "turnout.serving.cli.app",
        "serve",
        "--bundle",
        folder,
        "--listen",
        listen,
        *options,
    ]
    command += ["--lame-duck-s", lame_duck_s, "--workers", workers, "--reflection" if reflection else "--no-reflection"]
    command += [
        "--cache-items",
        0,
        *([] if "--metrics" in options else ["--metrics", "off"]),
        *([] if spool is None else ["--spool", spool]),
    ]
    return [str(word) for word in command]


def run_to_exit(
    folder: Path, listen: str = ANY_PORT, *options: object, workers: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run a server that is expected to refuse to start."""
    command = serve_command(folder, listen, *options, workers=workers)
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment())


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}


@dataclass
class ServerProcess:
    """A server in its own process; `address` is where it listens, `log` where its stderr goes."""

    process: subprocess.Popen[str]
    ready_line: str
    log: Path

    @property
    def address(self) -> str:
        return self.ready_line.rsplit(" ", 1)[-1]

    def wait(self, timeout_s: float = 60) -> int:
        return self.process.wait(timeout_s)


@contextlib.contextmanager
def server_process(folder: Path, log: Path, *options: object, **more: Any) -> Iterator[ServerProcess]:
    """Start a server, on a free port unless told which, and wait for its ready line; kill it at the end."""
    with started(serve_command(folder, more.pop("listen", ANY_PORT), *options, **more), log) as running:
        yield running


@contextlib.contextmanager
def started(command: list[str], log: Path) -> Iterator[ServerProcess]:
    """Run a command that serves, as `server_process` does."""
    own_environment = environment() | {"TMPDIR": str(log.parent)}  # a killed supervisor leaves its metrics folder
    with (
        log.open("w") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=own_environment) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline().strip()
            assert line, log.read_text()
            yield ServerProcess(process, line, log)
        finally:
            process.kill()


def lifecycle_of(bundle: Bundle, cache_items: int = 0, **sources: Any) -> Lifecycle:
    """Return the lifecycle of a bundle that is loaded already, and perhaps changed for the test."""
    lifecycle = Lifecycle(Sources(bundles=(bundle.folder,), cache_items=cache_items, **sources))
    lifecycle.hold(bundle.folder, bundle)
    return lifecycle


@contextlib.asynccontextmanager
async def server_in_loop(served: Bundle | Lifecycle, **settings: Any) -> AsyncIterator[tuple[RouterServer, str]]:
    """Serve in this event loop; gives the warm server and its address."""
    lifecycle = lifecycle_of(served) if isinstance(served, Bundle) else served
    server = RouterServer(lifecycle, ServerSettings(**{"listen": ANY_PORT} | settings))
    await server.start()
    try:
        await server.warm_up()
        yield server, f"127.0.0.1:{server.port}"
    finally:
        await server.stop(0)


def route_raw(address: str, raw: bytes, timeout_s: float = 60) -> pb.RouteResponse:
    """Send these very bytes to `Route`; raises `grpc.RpcError`."""
    with grpc.insecure_channel(address) as channel:
        method = channel.unary_unary(ROUTE_METHOD, response_deserializer=pb.RouteResponse.FromString)
        return method(raw, timeout=timeout_s)


def route(address: str, timeout_s: float = 60, **fields: Any) -> pb.RouteResponse:
    """Send a `RouteRequest` with these fields; raises `grpc.RpcError`."""
    return route_raw(address, pb.RouteRequest(**fields).SerializeToString(), timeout_s)


def refusal(address: str, raw: bytes, timeout_s: float = 60) -> tuple[grpc.StatusCode, str]:
    """Send bytes that must be refused; return code and details."""
    try:
        reply = route_raw(address, raw, timeout_s)
    except grpc.RpcError as error:
        return error.code(), error.details()
    raise AssertionError(f"expected an error, got tier {reply.tier}")


def health_of(address: str, service: str = SERVICE_NAME) -> int:
    """Return the health status; raises `grpc.RpcError`."""
    with grpc.insecure_channel(address) as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        return health_pb2_grpc.HealthStub(channel).Check(request, timeout=60).status
