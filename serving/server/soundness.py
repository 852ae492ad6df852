"""Whether both looks of this worker answer: a run that does not end takes it out of service and stops its heartbeat.

    once a second: the same run as long as that? -> health NOT_SERVING, ready 0, no beat -> the supervisor replaces it

Where one process serves alone, health is what the orchestrator's probe goes by. Whoever hangs in the event loop itself
can't look here; then no beat and no answer to a probe say so.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable

from turnout.serving.server.heartbeat import BEAT_S, UNMEASURED, Silence
from turnout.serving.service.service import RouterService

MODEL_S = 10.0
"""A run of the model that had the CPU for so long is one that will not end: the longest prompts take some 0.1 s."""

_log = logging.getLogger("turnout.server")


class _Watched:
    """One thread: which run it is at, and for how long that has had the CPU."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._silence = Silence(os.getpid(), clock)
        self._job = 0

    @property
    def seconds(self) -> float:
        return self._silence.seconds

    def look(self, job: int) -> bool:
        """Take note of the run that it is at, 0 for none; return whether that still may end."""
        is_same_run = bool(job) and job == self._job
        self._job = job
        self._silence.tick(counts=is_same_run)
        if not is_same_run:
            self._silence.reset()
        return self._silence.seconds < MODEL_S * (1.0 if self._silence.is_measured else UNMEASURED)


class Soundness:
    """Looks after the threads of both looks.

    Attributes:
        is_sound: whether both answered, or were idle, when last looked at.
    """

    def __init__(
        self,
        service: RouterService,
        serving: Callable[[bool], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take what runs the looks, and what tells health whether they are served."""
        self.is_sound = True
        self._service = service
        self._serving = serving
        self._watched = {name: _Watched(clock) for name in service.answering.jobs}

    async def watch(self) -> None:
        """Look once a second, until cancelled or the server drains."""
        while True:
            await asyncio.sleep(BEAT_S)
            if self._service.is_draining:
                return
            await self.look()

    async def beat(self, beat: Callable[[], None]) -> None:
        """Call `beat` once a second while both looks are sound, until cancelled."""
        while True:
            if self.is_sound:
                beat()
            await asyncio.sleep(BEAT_S)

    async def look(self) -> None:
        """Look once, and say what has changed."""
        jobs = self._service.answering.jobs
        stuck = [name for name, one in self._watched.items() if not one.look(jobs[name])]
        if (not stuck) != self.is_sound:
            self.is_sound = not stuck
            await self._tell(stuck)

    async def _tell(self, stuck: list[str]) -> None:
        for name in stuck:
            _log.error("%s has been at one run for %.0f s: out of service", name, self._watched[name].seconds)
        if not stuck:
            _log.warning("both looks answer again")
        self._service.ready(is_ready=not stuck)
        await self._serving(not stuck)
