"""The HTTP port of one worker: uvicorn in the event loop of the gRPC server, on a socket of ours.

It binds when the gRPC server does and shares the port as that does: one process alone, or with
SO_REUSEPORT beside other workers while their supervisor holds the port.
"""

from __future__ import annotations

import asyncio
import socket
import ssl

import uvicorn

from turnout.serving.access.listening import PortTaken, check_free, resolved
from turnout.serving.access.tls import Certificates, TlsFiles, tls_files
from turnout.serving.access.tokens import TokensFile
from turnout.serving.observe.metrics import ServerMetrics
from turnout.serving.protocols.http.app import HttpPaths
from turnout.serving.protocols.http.connections import BoundedServer, ConnectionLimits, Connections
from turnout.serving.service.service import RouterService
from turnout.serving.settings import ServerSettings

BACKLOG = 2048
START_POLL_S = 0.005


class HttpPort:
    """The port and the paths behind it.

    Attributes:
        address: where it listens, `host:port`, with the port it got; empty before `start`.
        connections: those that are open.
    """

    def __init__(
        self, service: RouterService, settings: ServerSettings, tokens: TokensFile | None, *, shares_port: bool
    ) -> None:
        """Take what answers, the address and limits, and whether other workers listen there as well.

        Raises:
            SettingsRefused: certificate and key can't be used.
        """
        self.address = ""
        self._settings = settings
        self._shares_port = shares_port
        files = tls_files(settings)
        context = None if files is None else _context(files, service.metrics)
        self._paths = HttpPaths(service, settings, tokens)
        limits = ConnectionLimits.of(settings)
        config = uvicorn.Config(
            self._paths.app(),
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            date_header=False,
            ws="none",
            proxy_headers=False,
            backlog=BACKLOG,
            # Tells callers that heed it (undici, Apache's client) to let go first: no request crosses our closing.
            headers=[("keep-alive", f"timeout={max(1, int(limits.keep_alive_s) - 1)}")],
        )
        self.connections = Connections(limits, service.metrics.http_ended)
        self._server = BoundedServer(config, self.connections, context)
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Bind and answer.

        Raises:
            PortTaken: another process listens on that address.
            SettingsRefused: the address can't be listened on for another reason.
        """
        listen = self._settings.http
        if not self._shares_port:
            check_free(listen)
        sockets = _bound(listen, shares_port=self._shares_port)
        self.address = f"{listen.rpartition(':')[0]}:{sockets[0].getsockname()[1]}"
        self._serving = asyncio.get_running_loop().create_task(self._server.serve(sockets))
        while not (self._server.started or self._serving.done()):  # noqa: ASYNC110  # uvicorn has no event for it
            await asyncio.sleep(START_POLL_S)
        if self._serving.done():
            await self._serving

    async def stop(self) -> None:
        """Close the port and all connections."""
        if self._serving is None:
            return
        self._server.should_exit = self._server.force_exit = True
        await self._serving
        await self._paths.close()


def _bound(listen: str, *, shares_port: bool) -> list[socket.socket]:
    """Return a bound socket for each address of the name; the first one settles the port."""
    sockets: list[socket.socket] = []
    port = 0
    for family, kind, protocol, _, address in resolved(listen):
        bound = socket.socket(family, kind, protocol)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT if shares_port else socket.SO_REUSEADDR, 1)
        try:
            bound.bind((address[0], port or address[1], *address[2:]))
        except OSError:
            bound.close()
            continue  # one of several addresses of the name, such as ::1 without IPv6
        bound.setblocking(False)  # noqa: FBT003  # the name of the argument is `flag`
        port = bound.getsockname()[1]
        sockets.append(bound)
    if not sockets:  # free a moment ago
        raise PortTaken(listen)
    return sockets


def _context(files: TlsFiles, metrics: ServerMetrics) -> ssl.SSLContext:
    """Return a context that takes new certificates up for the next handshake, as the gRPC port does."""
    certificates = Certificates(files, files.context, metrics)

    def before_handshake(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        certificates.changed()
        connection.context = certificates.latest

    first = certificates.latest
    first.sni_callback = before_handshake
    return first
