"""Keeps the workers of a port: starts them, replaces those that die or hang, drains all at SIGTERM.

    hold the port -> start N workers -> all warm: ready line -> replace the dead, kill and replace the hung
    -> SIGTERM -> all drain -> exit 0

Workers are spawned, not forked: gRPC does not survive a fork. They share no state. Before the ready line
the death of any worker ends the service, for nobody depends on it yet and an operator is looking; after
it none does, and a worker that keeps dying is started at growing intervals. Imports no model.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import signal
import time
from contextlib import nullcontext

from turnout.serving.access.listening import held_port
from turnout.serving.errors import EXIT_DATA_REFUSED, EXIT_OK, TurnoutError
from turnout.serving.observe.exposition import Exposition, forget_worker, keep_shared_folder, shared_folder
from turnout.serving.observe.settings import ObserveSettings
from turnout.serving.observe.supervised import SupervisorCounts
from turnout.serving.server.heartbeat import BEAT_S
from turnout.serving.server.observing import announce, expose
from turnout.serving.server.orders import Order, Refused, ready_line
from turnout.serving.server.worker_process import WorkerProcess
from turnout.serving.settings import ServerSettings, Sources

QUICK_DEATH_S = 60.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
KILL_AFTER_S = 2.0
"""How long after lame duck and grace a worker may take to end before it is killed."""

_log = logging.getLogger("turnout.supervisor")


class WorkerFailed(TurnoutError):
    """A worker ended before the service was ready; `exit_code` is that of its reason."""

    def __init__(self, message: str, exit_code: int = EXIT_DATA_REFUSED) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # the reason's own, not the class's


def supervise(sources: Sources, settings: ServerSettings, observe: ObserveSettings, n_workers: int) -> int:
    """Serve bundles with several processes until SIGTERM or SIGINT and return the exit code.

    Raises:
        PortTaken: another process holds a port.
        SettingsRefused: the address can't be listened on.
        MetricsPortTaken: likewise for the metrics, where their address was asked for.
        WorkerFailed: a worker could not start; its message and exit code are the worker's.
    """
    holding_http = held_port(settings.http) if settings.http else nullcontext("")
    with held_port(settings.listen) as listen, holding_http as http, shared_folder():
        order = Order(sources, dataclasses.replace(settings, listen=listen, http=http), observe, os.getpid())
        counts = SupervisorCounts()
        exposition = expose(observe, supervised=counts)
        try:
            return asyncio.run(Supervisor(order, n_workers, exposition, counts).run())
        finally:
            if exposition is not None:
                exposition.close()


def pause_s(n_quick_deaths: int) -> float:
    """Return how long to wait before the next start, in seconds: nothing after the first death in a row."""
    return 0.0 if n_quick_deaths <= 1 else min(FIRST_PAUSE_S * 2.0 ** (n_quick_deaths - 2), LONGEST_PAUSE_S)


class Supervisor:
    """The workers of one service and what becomes of them."""

    def __init__(self, order: Order, n_workers: int, exposition: Exposition | None, counts: SupervisorCounts) -> None:
        """Take the order that every worker gets, where their metrics are shown, and what counts their ends."""
        self._counts = counts
        self._exposition = exposition
        self._order = order
        self._n_workers = n_workers
        self._workers: set[WorkerProcess] = set()
        self._warm: set[WorkerProcess] = set()
        self._all_warm = asyncio.Event()
        self._stopping = asyncio.Event()
        self._failure: WorkerFailed | None = None
        self._unclean = 0
        self._reload_turn = asyncio.Lock()

    async def run(self) -> int:
        """Keep the workers until a signal; return the exit code, 1 when a worker did not end by itself."""
        async with asyncio.TaskGroup() as tasks:
            self._on_signals(tasks)
            keepers = [tasks.create_task(self._keep_one()) for _ in range(self._n_workers)]
            announcing = tasks.create_task(self._announce())
            looking = tasks.create_task(self._look_after())
            await self._stopping.wait()
            announcing.cancel()
            looking.cancel()
            await self._drain(keepers)
        if self._failure is not None:
            raise self._failure
        return EXIT_DATA_REFUSED if self._unclean else EXIT_OK

    async def _announce(self) -> None:
        await self._all_warm.wait()
        bundle_id = next(iter(self._warm)).bundle_id
        announce(self._exposition, self._order.settings, self._order.settings.http)
        print(ready_line(bundle_id, self._order.settings.listen), flush=True)
        _log.info("%d workers are warm", self._n_workers)

    async def _look_after(self) -> None:
        """Kill workers that hang, until cancelled; their places are filled as those of dead ones."""
        while True:
            await asyncio.sleep(BEAT_S)
            self._counts.turned()
            keep_shared_folder()
            hung = [worker for worker in self._workers if worker.pulse.tick()]
            await asyncio.gather(*(worker.put_down() for worker in hung))

    async def _keep_one(self) -> None:
        """Keep one place filled until the service stops."""
        n_quick_deaths = 0
        while not self._stopping.is_set():
            started_s = time.monotonic()
            ending = await self._run_worker()
            if self._stopping.is_set():
                return
            if not self._all_warm.is_set():
                self._fail(ending)
                return
            n_quick_deaths = n_quick_deaths + 1 if time.monotonic() - started_s < QUICK_DEATH_S else 1
            wait_s = pause_s(n_quick_deaths)
            _log.error("a worker ended (%s); the next one starts in %.1f s", ending.message, wait_s)
            await self._sleep(wait_s)

    async def _run_worker(self) -> Refused:
        """Start a worker, see it through to its end, and return why it ended."""
        try:
            worker = await WorkerProcess.start(self._order)
        except OSError as error:  # no memory, or no room for another process
            return Refused(f"it can't be started: {error.strerror}", EXIT_DATA_REFUSED)
        self._workers.add(worker)
        if self._stopping.is_set():
            worker.send(signal.SIGTERM)
        if await worker.is_ready():
            self._warm.add(worker)
            if len(self._warm) == self._n_workers:
                self._all_warm.set()
        ending = await worker.ending()
        if worker in self._warm and self._stopping.is_set() and ending.exit_code != EXIT_OK:
            self._unclean += 1
        if not self._stopping.is_set():
            self._counts.ended("hung" if worker.was_hung else "ended")
        self._workers.discard(worker)
        self._warm.discard(worker)
        forget_worker(worker.pid)
        return ending

    def _fail(self, ending: Refused) -> None:
        if self._failure is None:
            self._failure = WorkerFailed(ending.message, ending.exit_code or EXIT_DATA_REFUSED)
        self._stopping.set()

    async def _drain(self, keepers: list[asyncio.Task[None]]) -> None:
        """Ask all workers to end at once, and kill those that do not."""
        settings = self._order.settings
        longest_s = settings.lame_duck_s + settings.grace_s + KILL_AFTER_S
        if self._failure is None:  # whose message is to stand alone
            _log.info("ending %d workers within %.1f s", len(self._workers), longest_s)
        self._send(signal.SIGTERM if self._failure is None else signal.SIGKILL)
        await asyncio.wait(keepers, timeout=longest_s)
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        for worker in self._workers:
            worker.send(number)

    async def _sleep(self, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await self._stopping.wait()
        except TimeoutError:
            return

    def _on_signals(self, tasks: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop, number)
        loop.add_signal_handler(signal.SIGHUP, lambda: tasks.create_task(self._reload_each()))

    def _on_stop(self, number: int) -> None:
        if self._stopping.is_set():
            self._send(signal.SIGKILL)
            os._exit(128 + number)
        self._stopping.set()

    async def _reload_each(self) -> None:
        """Pass SIGHUP on to one worker after the other: a bundle that loads takes a core from the calls."""
        async with self._reload_turn:
            for worker in list(self._warm):
                await worker.reload()
