"""One worker as its supervisor sees it: a process with a line of orders down and lines of reports up."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress

import msgspec

from turnout.serving.errors import EXIT_DATA_REFUSED
from turnout.serving.server.heartbeat import Pulse
from turnout.serving.server.orders import STACKS_SIGNAL, Beat, Order, Ready, Refused, Reloaded, report_of, to_line
from turnout.serving.server.stacks import places

RELOAD_TIMEOUT_S = 120.0
"""How long one worker may take to reload before the next one is asked."""
STACKS_S = 0.5
"""How long a hung worker may take to write its stacks."""
_COMMAND = (sys.executable, "-P", "-m", "turnout.serving.server.worker")
_log = logging.getLogger("turnout.supervisor")


class WorkerProcess:
    """A worker that was started.

    Attributes:
        pid: its process id.
        bundle_id: `name/version` that it serves; empty before it is ready.
        pulse: how long it has been silent.
        was_hung: whether it was put down for that.
    """

    def __init__(self, process: Process) -> None:
        self.pid = process.pid
        self.bundle_id = ""
        self.pulse = Pulse(process.pid)
        self.was_hung = False
        self._stacks: list[str] = []
        self._process = process
        self._refused: Refused | None = None
        self._ready = asyncio.Event()
        self._reloaded = asyncio.Event()
        self._reading = asyncio.create_task(self._read_reports())

    @classmethod
    async def start(cls, order: Order) -> WorkerProcess:
        """Start a worker and give it its order; raises `OSError` when the system has no room for it."""
        # Modules come from where this process found them (-P: not from the current folder). In a process
        # group of its own, Ctrl-C reaches the supervisor alone, which passes it on once.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        process = await asyncio.create_subprocess_exec(
            *_COMMAND, stdin=PIPE, stdout=PIPE, env=environment, process_group=0
        )
        worker = cls(process)
        if process.stdin is not None:
            process.stdin.write(to_line(order))
            process.stdin.close()
        return worker

    async def is_ready(self) -> bool:
        """Wait until the worker takes calls; False when it ended before."""
        await self._ready.wait()
        return bool(self.bundle_id)

    async def ending(self) -> Refused:
        """Wait until the worker has ended; return its exit code, and its own reason where it gave one."""
        code = await self._process.wait()
        await self._reading
        if self._refused is not None:
            return self._refused
        if code < 0:
            return Refused(f"{signal.Signals(-code).name} ended worker {self.pid}", EXIT_DATA_REFUSED)
        return Refused(f"worker {self.pid} ended with exit code {code}", code)

    async def reload(self) -> None:
        """Have the worker reload and wait until it did, or has ended, or the time is up."""
        self._reloaded.clear()
        self.send(signal.SIGHUP)
        try:
            async with asyncio.timeout(RELOAD_TIMEOUT_S):
                await self._reloaded.wait()
        except TimeoutError:
            _log.warning("worker %d is not through with its reload after %.0f s", self.pid, RELOAD_TIMEOUT_S)

    async def put_down(self) -> None:
        """Kill a worker that hangs, which takes it out of the port at once, and say where it hung; once."""
        if self.was_hung or self._process.returncode is not None:
            return
        self.was_hung = True
        if not self.pulse.is_stopped and not self.pulse.is_starting:  # before it is ready the signal may end it
            self.send(STACKS_SIGNAL)
            await asyncio.sleep(STACKS_S)
        self.send(signal.SIGKILL)
        why = (
            "it was stopped" if self.pulse.is_stopped else "not warm yet" if self.pulse.is_starting else "no heartbeat"
        )
        at = places(self._stacks)
        where = f"; its threads were at {at}" if at else ""
        self._refused = Refused(
            f"worker {self.pid} hung for {self.pulse.silent_s:.1f} s, {why}, and was killed{where}", EXIT_DATA_REFUSED
        )

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless the worker has ended."""
        # Not by `Process.send_signal` of Python 3.11: it collects the exit code of a child that has just ended
        # before asyncio does, which then knows none and reports 255 for it.
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def _read_reports(self) -> None:
        assert self._process.stdout is not None  # it was asked for as a pipe
        async for line in self._process.stdout:
            try:
                report = report_of(line)
            except msgspec.DecodeError:
                self._stacks.append(line.decode(errors="replace"))
                continue
            match report:
                case Beat():
                    self.pulse.beat()
                case Ready(bundle_id):
                    self.bundle_id = bundle_id
                    self.pulse.beat()
                    self._ready.set()
                case Refused() as refused:
                    self._refused = refused
                case Reloaded():
                    self._reloaded.set()
        self._ready.set()  # the stream is at its end: nobody is to wait any more
        self._reloaded.set()
