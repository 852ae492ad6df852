"""Builds the server around a bundle and runs it until a signal: bind, warm up, serve, drain.

    bind (health NOT_SERVING) -> warm up -> SERVING -> first signal -> NOT_SERVING, new calls still
    answered (lame duck) -> no new calls, those in flight finish (grace) -> exit 0

A second signal exits at once: serving keeps no state that matters.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import grpc
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from serving.bundle import Bundle, load_bundle
from serving.errors import EXIT_BUNDLE_REFUSED, EXIT_OK, EXIT_PORT_TAKEN, BundleRefused, TurnoutError
from serving.observe.exposition import MetricsPortTaken
from serving.observe.running import Observation, keep_sampling, observation
from serving.observe.settings import ObserveSettings
from serving.observe.tracing import TracesUnavailable
from serving.server.config import ServerSettings, SettingsRefused, split_address
from serving.server.service import RouterService
from serving.wire import SERVICE_NAME

HEALTH_NAMES = ("", SERVICE_NAME)

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_log = logging.getLogger("turnout.server")


class PortTaken(TurnoutError):
    """Another process listens on that address; exit code 4."""


class RouterServer:
    """A gRPC server with RouterService, health and, on demand, reflection.

    Attributes:
        port: the port bound, also when 0 was asked for; 0 before `start`.
        service: the handlers.
    """

    def __init__(self, bundle: Bundle, settings: ServerSettings, observed: Observation | None = None) -> None:
        """Prepare; must run inside the event loop that is to serve. Nothing is bound before `start`."""
        self.port = 0
        observed = observed or Observation()
        self.service = RouterService(bundle, settings, observed.metrics, observed.tracing)
        self._settings = settings
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(
            options=(
                # With SO_REUSEPORT, gRPC's default, a second server takes half of the calls in silence.
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", settings.max_transport_bytes),
            )
        )
        self._server.add_generic_rpc_handlers((self.service.handlers(),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if settings.reflection:
            exposed = (SERVICE_NAME, health.SERVICE_NAME, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(exposed, self._server)

    async def start(self) -> None:
        """Bind and answer, with health NOT_SERVING and `Route` UNAVAILABLE.

        Raises:
            PortTaken: another process listens on that address.
            SettingsRefused: the address can't be listened on for another reason.
        """
        await self._set_health(_NOT_SERVING)
        check_free(self._settings.listen)
        try:
            self.port = self._server.add_insecure_port(self._settings.listen)
        except RuntimeError:  # free a moment ago
            raise _port_taken(self._settings.listen) from None
        await self._server.start()

    async def warm_up(self) -> None:
        """Warm the model, then turn health to SERVING."""
        await self.service.warm_up()
        await self._set_health(_SERVING)

    async def drain(self) -> None:
        """Say NOT_SERVING, go on answering for `lame_duck_s`, then finish what is in flight within `grace_s`."""
        self.service.metrics.ready(is_ready=False)
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(self._settings.lame_duck_s)
        await self.stop(self._settings.grace_s)

    async def stop(self, grace_s: float) -> None:
        """Take no new calls and cancel those still in flight after `grace_s`."""
        await self._server.stop(grace_s)
        self.service.close()

    async def _set_health(self, status: int) -> None:
        for name in HEALTH_NAMES:
            await self._health.set(name, status)


def run(bundle_folder: Path, settings: ServerSettings, observe: ObserveSettings | None = None) -> int:
    """Serve the bundle in `bundle_folder` until SIGTERM or SIGINT; return the process's exit code.

    Prints one line to stdout when ready, `turnout: serving <name/version> on <host:port>`, and errors to
    stderr: 2 for an address that can't be listened on, 3 for a refused bundle, 4 for a taken port.
    `observe` says how the server shows itself; None shows nothing but the log.
    """
    try:
        bundle = load_bundle(bundle_folder)
        with (
            observation(observe or ObserveSettings()) as observed,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            return runner.run(_serve_until_signal(bundle, settings, observed))
    except BundleRefused as error:
        return _complain(error, EXIT_BUNDLE_REFUSED)
    except PortTaken as error:
        return _complain(error, EXIT_PORT_TAKEN)
    except (SettingsRefused, MetricsPortTaken, TracesUnavailable) as error:
        return _complain(error, error.exit_code)


async def _serve_until_signal(bundle: Bundle, settings: ServerSettings, observed: Observation) -> int:
    stopping = _on_first_signal()
    server = RouterServer(bundle, settings, observed)
    await server.start()
    await server.warm_up()
    host = settings.listen.rpartition(":")[0]
    print(f"turnout: serving {bundle.manifest.bundle_id} on {host}:{server.port}", flush=True)
    sampling = asyncio.create_task(keep_sampling(server.service.metrics, server.service.answering.admission))
    await stopping.wait()
    _log.info("draining: lame duck %.1f s, then at most %.1f s", settings.lame_duck_s, settings.grace_s)
    await server.drain()
    sampling.cancel()
    await asyncio.wait((sampling,))
    return EXIT_OK


def _on_first_signal() -> asyncio.Event:
    """Return an event that the first SIGTERM or SIGINT sets; the second one ends the process."""
    stopping = asyncio.Event()

    def on_signal(number: int) -> None:
        if stopping.is_set():
            os._exit(128 + number)
        stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    return stopping


def check_free(listen: str) -> None:
    """Bind plain sockets for a moment: they give the reason of a failure, which the library does not."""
    host, port = split_address(listen)
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise SettingsRefused(f"listen: {host} is not an address of this machine: {error.strerror}") from None
    failures = [failure for address in addresses if (failure := _bind_failure(address)) is not None]
    if any(failure.errno == errno.EADDRINUSE for failure in failures):
        raise _port_taken(listen)
    if len(failures) == len(addresses):
        raise SettingsRefused(f"listen: can't listen on {listen}: {failures[0].strerror}")


def _bind_failure(candidate: tuple[Any, ...]) -> OSError | None:
    family, kind, protocol, _, address = candidate
    try:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as gRPC does: old connections may linger
            probe.bind(address)
    except OSError as error:
        return error
    return None


def _port_taken(listen: str) -> PortTaken:
    return PortTaken(f"{listen} is taken by another process; stop it or choose another address")


def _complain(error: TurnoutError, exit_code: int) -> int:
    print(f"turnout: {error}", file=sys.stderr, flush=True)
    return exit_code
