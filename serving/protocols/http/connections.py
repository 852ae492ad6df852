"""Connections of the HTTP port, bounded by time and by number: a caller that is idle, slow or gone holds nothing.

In: bytes from uvicorn's transport. Out: requests for the application, or the end of the connection. Three clocks
run, each from a transition and never put off by a byte that comes: for a request line with its headers, for the
next request, and for a caller to take its answer. Bodies have a clock of their own, see `app.py`.

Waiting connections do not count as load. Only when the table is full, the one that has waited longest on its
caller makes room: whoever asks for something gets in, however many say nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from turnout.serving.protocols.http.calls import REFUSED_400, REFUSED_408
from turnout.serving.settings import ServerSettings

HANDSHAKE_S = 10.0
"""How long a TLS handshake may take; asyncio's own 60 s let strangers hold descriptors without a word."""
TAKING_S = 30.0
"""How long a caller may leave an answer unread once the buffers are full; a page of 10 MB at 3 Mbit/s takes as long."""
CLOSING_S = 2.0
"""How long the end of a TLS connection may wait for its caller's word."""
LOG_EVERY_S = 60.0

_log = logging.getLogger("turnout.http")


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """What a connection may take; times in seconds.

    Attributes:
        head_s: for a request line with its headers, or the rest of a body that nobody waits for any more.
        keep_alive_s: between two requests.
        max_age_s: after which a connection ends with its next answer, so that callers spread anew; 0 for never.
        max_connections: held at once.
    """

    head_s: float
    keep_alive_s: float
    max_age_s: float
    max_connections: int

    @classmethod
    def of(cls, settings: ServerSettings) -> ConnectionLimits:
        """Take them from the settings of the server and from what the system lets the process have."""
        room = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
        return cls(
            settings.http_head_s,
            settings.http_keep_alive_s,
            settings.max_connection_age_s,
            min(settings.max_http_connections, max(1, room)),
        )


class Connections:
    """All connections of one port: who waits on its caller, since when, and why connections were ended.

    Attributes:
        ended: how many were ended for the reasons `head`, `idle`, `unread` and `room`.
        open_now: those that are open.
    """

    def __init__(self, limits: ConnectionLimits, count: Callable[[str], None]) -> None:
        """Take the limits of each connection, and what counts the reasons why connections are ended."""
        self._count = count
        self.limits = limits
        self.ended: Counter[str] = Counter()
        self.open_now: set[BoundedProtocol] = set()
        self._waiting: dict[BoundedProtocol, None] = {}  # the longest first
        self._logged: Counter[str] = Counter()
        self._logged_s = -LOG_EVERY_S

    def opened(self, connection: BoundedProtocol) -> None:
        """Take a new connection in; where there is no room, the one that has waited longest makes it."""
        self.open_now.add(connection)
        if len(self.open_now) > self.limits.max_connections:
            oldest = next(iter(self._waiting), connection)
            self.closed(oldest)
            oldest.end("room")

    def closed(self, connection: BoundedProtocol) -> None:
        """Forget a connection."""
        self.open_now.discard(connection)
        self._waiting.pop(connection, None)

    def waits(self, connection: BoundedProtocol, *, is_waiting: bool) -> None:
        """Note that a connection begins to wait on its caller, or no longer does."""
        self._waiting.pop(connection, None)
        if is_waiting and connection in self.open_now:
            self._waiting[connection] = None

    def count(self, reason: str) -> None:
        """Count a connection that was ended; at most one line of the log a minute says so."""
        self.ended[reason] += 1
        self._count(reason)
        now_s = time.monotonic()
        if reason != "idle" and now_s - self._logged_s >= LOG_EVERY_S:
            new = self.ended - self._logged
            self._logged, self._logged_s = self.ended.copy(), now_s
            told = ", ".join(f"{n} {why}" for why, n in sorted(new.items()) if why != "idle")
            _log.warning(
                "ended connections that were slow, silent or too many: %s; %d are open", told, len(self.open_now)
            )


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a clock for whatever the caller owes, and statuses in our shape."""

    def __init__(self, connections: Connections, config: uvicorn.Config, server_state: Any, app_state: Any) -> None:
        """Take the connections that this one is among, and what uvicorn gives every protocol."""
        super().__init__(config, server_state, app_state)
        self._connections = connections
        self._made_s = 0.0
        self._is_amid_message = False
        self._clock: asyncio.TimerHandle | None = None
        self._taking: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._made_s = time.monotonic()
        self._connections.opened(self)
        self._await_caller("head", self._connections.limits.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all clocks."""
        self._stop_clock()
        self._stop_taking()
        self._unset_keepalive_if_required()
        self._connections.closed(self)
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Begin a request: its head has a time limit, unless it comes while the one before is answered."""
        self._is_amid_message = True
        super().on_message_begin()
        if self.cycle is None or self.cycle.response_complete:
            self._await_caller("head", self._connections.limits.head_s)

    def on_headers_complete(self) -> None:
        """Hand the request over; the body's time limit is the application's."""
        self._stop_clock()
        super().on_headers_complete()
        max_age_s = self._connections.limits.max_age_s
        if max_age_s and time.monotonic() - self._made_s > max_age_s:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        """Note that the caller owes nothing any more."""
        self._is_amid_message = False
        super().on_message_complete()
        if not self.cycle.response_complete:
            self._connections.waits(self, is_waiting=False)
        else:
            self._await_next()

    def on_response_complete(self) -> None:
        """Wait for the next request, or the rest of this one."""
        is_last = not self.pipeline
        super().on_response_complete()
        self._unset_keepalive_if_required()  # uvicorn's own is put off by every byte
        if is_last:
            self._await_next()

    def pause_writing(self) -> None:
        """Give a caller that does not read some time, and no more."""
        super().pause_writing()
        self._stop_taking()
        self._taking = self.loop.call_later(TAKING_S, self.end, "unread")

    def resume_writing(self) -> None:
        """Note that the caller reads."""
        self._stop_taking()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP in the shape of all our errors."""
        del msg
        self.transport.write(REFUSED_400)
        self.transport.close()

    def end(self, reason: str) -> None:
        """End the connection, with 408 where half a request has come, and at once where the caller does not read."""
        is_unread = self.transport.get_write_buffer_size() > 0
        if self.transport.is_closing() and not is_unread:
            return
        self._connections.count(reason)
        if is_unread or reason == "room":
            self.transport.abort()
            return
        if reason == "head" and self._is_amid_message and (self.cycle is None or self.cycle.response_complete):
            self.transport.write(REFUSED_408)
        self.transport.close()

    def _await_next(self) -> None:
        limits = self._connections.limits
        if self._is_amid_message:
            self._await_caller("head", limits.head_s)
        else:
            self._await_caller("idle", limits.keep_alive_s)

    def _await_caller(self, reason: str, within_s: float) -> None:
        self._stop_clock()
        self._connections.waits(self, is_waiting=True)
        self._clock = self.loop.call_later(within_s, self.end, reason)

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _stop_taking(self) -> None:
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None


class BoundedServer(uvicorn.Server):
    """uvicorn with these connections, with a time limit for handshakes, and without its signal handlers."""

    def __init__(self, config: uvicorn.Config, connections: Connections, context: ssl.SSLContext | None) -> None:
        """Take what uvicorn needs, the connections to keep, and the context for TLS; None for plain text."""
        super().__init__(config)
        self._connections = connections
        self._context = context

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the gRPC server."""
        yield

    async def startup(self, sockets: Any = None) -> None:
        """Listen on the sockets; uvicorn's own startup has no way to say how long a handshake may take."""
        loop = asyncio.get_running_loop()
        has_tls = self._context is not None

        def connection() -> BoundedProtocol:
            return BoundedProtocol(self._connections, self.config, self.server_state, {})

        self.servers = [
            await loop.create_server(
                connection,
                sock=bound,
                ssl=self._context,
                backlog=self.config.backlog,
                ssl_handshake_timeout=HANDSHAKE_S if has_tls else None,
                ssl_shutdown_timeout=CLOSING_S if has_tls else None,
            )
            for bound in sockets or ()
        ]
        self.started = True
