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

from serving.bundle import Bundle
from serving.pb import router_pb2 as pb
from serving.server.config import ServerSettings
from serving.server.running import RouterServer
from serving.wire import ROUTE_METHOD, SERVICE_NAME

ANY_PORT = "127.0.0.1:0"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_SERVE = """
import sys
from pathlib import Path
from serving.commands import serve
sys.exit(serve(Path(sys.argv[1]), sys.argv[2], lame_duck_s=float(sys.argv[3]), reflection=sys.argv[4] == "yes"))
"""


def serve_command(
    folder: Path, listen: str = ANY_PORT, *, lame_duck_s: float = 0.2, reflection: bool = False
) -> list[str]:
    return [sys.executable, "-c", _SERVE, str(folder), listen, str(lame_duck_s), "yes" if reflection else "no"]


def run_to_exit(folder: Path, listen: str = ANY_PORT) -> subprocess.CompletedProcess[str]:
    """Run a server that is expected to refuse to start."""
    return subprocess.run(serve_command(folder, listen), capture_output=True, text=True, timeout=20, check=False)


@dataclass
class ServerProcess:
    """A server in its own process; `address` is where it listens, `log` where its stderr goes."""

    process: subprocess.Popen[str]
    ready_line: str
    log: Path

    @property
    def address(self) -> str:
        return self.ready_line.rsplit(" ", 1)[-1]

    def wait(self, timeout_s: float = 10) -> int:
        return self.process.wait(timeout_s)


@contextlib.contextmanager
def server_process(folder: Path, log: Path, **options: Any) -> Iterator[ServerProcess]:
    """Start a server on a free port and wait for its ready line; kill it at the end if it still runs."""
    with started(serve_command(folder, **options), log) as running:
        yield running


@contextlib.contextmanager
def started(command: list[str], log: Path) -> Iterator[ServerProcess]:
    """Run a command that serves, as `server_process` does."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with (
        log.open("w") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline().strip()
            assert line, log.read_text()
            yield ServerProcess(process, line, log)
        finally:
            process.kill()


@contextlib.asynccontextmanager
async def server_in_loop(bundle: Bundle, **settings: Any) -> AsyncIterator[tuple[RouterServer, str]]:
    """Serve a bundle in this event loop; gives the warm server and its address."""
    server = RouterServer(bundle, ServerSettings(**{"listen": ANY_PORT} | settings))
    await server.start()
    try:
        await server.warm_up()
        yield server, f"127.0.0.1:{server.port}"
    finally:
        await server.stop(0)


def route_raw(address: str, raw: bytes, timeout_s: float = 5) -> pb.RouteResponse:
    """Send these very bytes to `Route`; raises `grpc.RpcError`."""
    with grpc.insecure_channel(address) as channel:
        method = channel.unary_unary(ROUTE_METHOD, response_deserializer=pb.RouteResponse.FromString)
        return method(raw, timeout=timeout_s)


def route(address: str, timeout_s: float = 5, **fields: Any) -> pb.RouteResponse:
    """Send a `RouteRequest` with these fields; raises `grpc.RpcError`."""
    return route_raw(address, pb.RouteRequest(**fields).SerializeToString(), timeout_s)


def refusal(address: str, raw: bytes, timeout_s: float = 5) -> tuple[grpc.StatusCode, str]:
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
        return health_pb2_grpc.HealthStub(channel).Check(request, timeout=5).status
