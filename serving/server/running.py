"""Builds the server around a bundle and runs it until a signal: bind, warm up, serve, drain.

    bind (health NOT_SERVING) -> warm up -> SERVING -> first signal -> NOT_SERVING, new calls still
    answered (lame duck) -> new calls UNAVAILABLE, those in flight finish (grace) -> exit 0

A second signal exits at once: serving keeps no state that matters. SIGHUP reloads.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from turnout.serving.access.access import TokenGate
from turnout.serving.access.listening import check_free
from turnout.serving.access.tls import server_credentials
from turnout.serving.access.tokens import TokensFile
from turnout.serving.decision.decision import NO_RULES
from turnout.serving.decision.rules.names import check_names
from turnout.serving.decision.rules.rules import Rules
from turnout.serving.decision.rules.watching import RulesFile
from turnout.serving.errors import EXIT_OK, EXIT_USAGE, TurnoutError, how_to_install
from turnout.serving.observe.incidents import report_incident
from turnout.serving.observe.settings import ObserveSettings
from turnout.serving.observe.tracing import Tracing
from turnout.serving.protocols import open_inference
from turnout.serving.protocols.ext_proc.adding import add_ext_proc
from turnout.serving.protocols.looking import ListedHealth, add_reflection
from turnout.serving.server.compacting import Compacting
from turnout.serving.server.connections import transport_options
from turnout.serving.server.loop import fast_loop
from turnout.serving.server.observing import Observation, announce, keep_sampling, observation
from turnout.serving.server.orders import ready_line
from turnout.serving.server.soundness import Soundness
from turnout.serving.service.lifecycle import Lifecycle
from turnout.serving.service.service import RouterService
from turnout.serving.settings import ServerSettings, SettingsRefused, Sources, unix_path
from turnout.serving.spool.writer import CLOSE_S as SPOOL_CLOSE_S
from turnout.serving.wire.route import SERVICE_NAME

if TYPE_CHECKING:
    from turnout.serving.bundles.manifest import Manifest
    from turnout.serving.protocols.http.port import HttpPort  # brings the extra `http`

FLUSH_S = 0.05
"""Time for gRPC's threads to send the last answers."""

CLOSE_S = 1.0
CLOSE_SHARE = 0.2
"""What is kept of the grace for spool and spans, at most: a disk or a collector that hangs ends no later than calls."""

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_log = logging.getLogger("turnout.server")


class ExtraMissing(TurnoutError):
    """What was asked for needs a package of an extra; exit code 2."""

    exit_code = EXIT_USAGE


class RouterServer:
    """A gRPC server with RouterService, health and, on demand, reflection and an HTTP port.

    Attributes:
        port: the port bound, also when 0 was asked for; 0 before `start`.
        http: the HTTP port; None without one.
        service: the handlers.
        soundness: whether the model answers.
    """

    def __init__(
        self,
        lifecycle: Lifecycle,
        settings: ServerSettings,
        tracing: Tracing | None = None,
        *,
        shares_port: bool = False,
    ) -> None:
        """Prepare; must run inside the event loop that is to serve. Nothing is bound before `start`.

        Args:
            lifecycle: the bundles to answer from.
            settings: the limits and the address.
            tracing: makes a span of each call; None for none.
            shares_port: whether other workers listen on the same address; whoever starts them holds the port.

        Raises:
            RulesRefused: the rules file can't be used, or names what is not served.
            SettingsRefused: logs are to be compacted, and what that needs is not installed.
            SettingsRefused: tokens or certificates can't be used.
            ExtraMissing: an HTTP port is asked for, and its packages are not installed.
        """
        self.port = 0
        self._lifecycle = lifecycle
        self._rules_file = self._watched_rules(settings)
        self._watching: list[asyncio.Task[None]] = []
        self._compacting = None if settings.compact_to is None else Compacting(settings)
        self.service = RouterService(lifecycle, settings, self._rules, tracing)
        self._settings = settings
        self._shares_port = shares_port
        self._is_warm = False
        self._health = ListedHealth()
        self.soundness = Soundness(self.service, self._say_serving)
        self._credentials = server_credentials(settings, self.service.metrics)
        self._tokens = self._tokens_file()
        self.http = self._http_port()
        self._server = grpc.aio.server(
            interceptors=() if self._tokens is None else (TokenGate(self._tokens),),
            options=transport_options(settings, shares_port=shares_port),
        )
        self._server.add_generic_rpc_handlers(
            (self.service.handlers(), open_inference.OpenInference(self.service, settings).handlers())
        )
        more = add_ext_proc(self._server, self.service, settings, tracing)
        self._tracing = tracing
        self._names = [SERVICE_NAME, open_inference.SERVICE_NAME, *more]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if settings.reflects:
            add_reflection(self._server, (SERVICE_NAME, open_inference.SERVICE_NAME, health.SERVICE_NAME))

    async def start(self) -> None:
        """Bind and answer; before `warm_up` with health NOT_SERVING and `Route` UNAVAILABLE.

        Raises:
            PortTaken: another process listens on that address.
            SettingsRefused: the address can't be listened on for another reason.
        """
        await self._set_health(_SERVING if self._is_warm else _NOT_SERVING)
        if not self._shares_port or unix_path(self._settings.listen) is not None:  # which nobody holds for a worker
            check_free(self._settings.listen)
        try:
            self.port = self._bind()
        except RuntimeError:  # which says no more than that
            if not self._shares_port:
                check_free(self._settings.listen)  # taken since a moment ago
            raise SettingsRefused(f"listen: gRPC can't listen on {self._settings.listen}") from None
        await self._server.start()
        if self.http is not None:
            await self.http.start()
        self._watch()

    def _bind(self) -> int:
        if self._credentials is None:
            return int(self._server.add_insecure_port(self._settings.listen))
        return int(self._server.add_secure_port(self._settings.listen, self._credentials))

    async def warm_up(self) -> None:
        """Warm the model, then turn health to SERVING."""
        await self.service.warm_up()
        self._is_warm = True
        await self._set_health(_SERVING)

    def _tokens_file(self) -> TokensFile | None:
        if self._settings.tokens is None:
            return None
        metrics = self.service.metrics
        return TokensFile(self._settings.tokens, lambda result: metrics.looked("tokens", result))

    def _watched_rules(self, settings: ServerSettings) -> RulesFile | None:
        metrics = self._lifecycle.metrics
        told = lambda result: metrics.looked("rules", result)  # noqa: E731  # one line, one use
        return None if settings.rules is None else RulesFile(settings.rules, self._check_rules, told=told)

    def _http_port(self) -> HttpPort | None:
        if not self._settings.http:
            return None
        try:
            from turnout.serving.protocols.http.port import HttpPort  # noqa: PLC0415  # an extra
        except ModuleNotFoundError as error:
            raise ExtraMissing(f"http: needs {error.name}; {how_to_install('http')}") from None
        return HttpPort(self.service, self._settings, self._tokens, shares_port=self._shares_port)

    def _rules(self) -> Rules:
        return NO_RULES if self._rules_file is None else self._rules_file.rules

    def _check_rules(self, rules: Rules) -> None:
        check_names(rules, [one.manifest for one in self._lifecycle.lineup.served])

    def _watch(self) -> None:
        """Follow pointers and rules file from now on, until the server stops."""
        service = self.service
        sampling = keep_sampling(service.metrics, service.answering.admission, service.decision_log, self._watch_drift)
        checking = service.promises.watch(lambda: self._rules().least_both, self._served)
        watched = [self._lifecycle.watch(), sampling, checking, self.soundness.watch()]
        watched += [] if self._rules_file is None else [self._rules_file.watch()]
        watched += [] if self._compacting is None else [self._compacting.watch()]
        self._watching = [asyncio.get_running_loop().create_task(watching) for watching in watched]
        for task in self._watching:
            task.add_done_callback(_say_if_broken)

    def _served(self) -> list[Manifest]:
        return [one.manifest for one in self._lifecycle.lineup.everyone]

    def _watch_drift(self) -> None:
        self.service.answering.pending.sweep()
        self.service.drift.sample(one.bundle for one in self._lifecycle.lineup.everyone)

    async def reload(self) -> None:
        """Look again at bundles and rules, at SIGHUP; never raises, and calls go on being answered."""
        _log.info("asked to reload")
        await self._lifecycle.reload()
        if self._rules_file is not None:
            await self._rules_file.reload_aside()

    async def drain(self) -> None:
        """Say NOT_SERVING, go on answering for `lame_duck_s`, then finish what is in flight within `grace_s`.

        Calls that come later are UNAVAILABLE, which callers may repeat elsewhere. The process is to end then,
        by `leave` and without `stop`: gRPC's own ending answers calls that it has not handed out yet with
        CANCELLED, which nobody repeats (one to two of six busy callers saw that).
        """
        settings = self._settings
        _log.info("draining: lame duck %.1f s, then at most %.1f s", settings.lame_duck_s, settings.grace_s)
        self.service.retire()
        await self._health.enter_graceful_shutdown()
        await asyncio.sleep(settings.lame_duck_s)
        self.service.refuse()
        ends_s = time.monotonic() + settings.grace_s
        closing_s = min(CLOSE_S, CLOSE_SHARE * settings.grace_s) if settings.spool or self._tracing else 0.0
        give_up_at = ends_s - closing_s
        while self.service.n_calls and time.monotonic() < give_up_at:  # noqa: ASYNC110  # the count is a plain int
            await asyncio.sleep(0.01)
        await asyncio.sleep(FLUSH_S)
        await self._close(max(closing_s, ends_s - time.monotonic() - FLUSH_S))

    async def stop(self, grace_s: float) -> None:
        """Take no new calls and cancel those still in flight after `grace_s`; those over HTTP at once."""
        await self._server.stop(grace_s)
        if self.http is not None:
            await self.http.stop()
        await self._close()

    async def _close(self, within_s: float = SPOOL_CLOSE_S) -> None:
        """Write and send what is held back, off the loop: it goes on answering UNAVAILABLE meanwhile."""
        for watching in self._watching:
            watching.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        closing = [asyncio.to_thread(self.service.close, within_s)]
        if self._tracing is not None:
            closing.append(asyncio.to_thread(self._tracing.close, min(within_s, CLOSE_S)))
        await asyncio.gather(*closing)

    async def _say_serving(self, is_serving: bool) -> None:
        await self._set_health(_SERVING if is_serving else _NOT_SERVING)

    async def _set_health(self, status: int) -> None:
        for name in ("", *self._names):
            await self._health.set(name, status)


def run(sources: Sources, settings: ServerSettings, observe: ObserveSettings) -> NoReturn:
    """Serve bundles in this process, and end the process at SIGTERM or SIGINT.

    Prints one line to stdout when ready; raises what `turnout.serving.server.launching.serve` does.
    """
    with observation(observe) as observed, asyncio.Runner(loop_factory=fast_loop()) as runner:
        runner.run(_serve_until_signal(Lifecycle(sources, observed.metrics), settings, observed))
        observed.close()
        leave(EXIT_OK)


def leave(exit_code: int) -> NoReturn:
    """End the process and its connections at once: callers find calls not answered yet UNAVAILABLE."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(exit_code)


async def _serve_until_signal(lifecycle: Lifecycle, settings: ServerSettings, observed: Observation) -> None:
    stopping = _on_first_signal()
    server = RouterServer(lifecycle, settings, observed.tracing)
    reload_on_hangup(server)
    await server.start()
    await server.warm_up()
    announce(observed.exposition, settings, "" if server.http is None else server.http.address)
    bundle_id = lifecycle.lineup.default.manifest.bundle_id
    path = unix_path(settings.listen)
    listen = settings.listen if path is not None else f"{settings.listen.rpartition(':')[0]}:{server.port}"
    print(ready_line(bundle_id, listen), flush=True)
    await stopping.wait()
    await server.drain()
    if path is not None:
        path.unlink(missing_ok=True)


def reload_on_hangup(server: RouterServer, reloaded: Callable[[], None] = lambda: None) -> None:
    """Run `server.reload` at each SIGHUP, one after the other, and `reloaded` after each."""
    loop, turn = asyncio.get_running_loop(), asyncio.Lock()
    running: set[asyncio.Task[None]] = set()

    async def reload() -> None:
        async with turn:
            try:
                await server.reload()
            finally:
                reloaded()

    def on_hangup() -> None:
        task = loop.create_task(reload())
        running.add(task)  # the loop itself keeps only weak references
        task.add_done_callback(running.discard)

    loop.add_signal_handler(signal.SIGHUP, on_hangup)


def _say_if_broken(task: asyncio.Task[None]) -> None:
    """Report what ended a task that was to go on until the server stops: nobody waits for it before that."""
    if not task.cancelled() and (error := task.exception()) is not None:
        report_incident(error)


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
