"""Whether this worker's model still answers: a run that does not end takes it out of service, and stops its heartbeat.

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


class Soundness:
    """Looks after the thread of the model.

    Attributes:
        is_sound: whether the model answered, or was idle, when last looked at.
    """

    def __init__(
        self,
        service: RouterService,
        serving: Callable[[bool], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take what runs the model, and what tells health whether it is served."""
        self.is_sound = True
        self._service = service
        self._serving = serving
        self._job = 0
        self._silence = Silence(os.getpid(), clock)

    async def watch(self) -> None:
        """Look once a second, until cancelled or the server drains."""
        while True:
            await asyncio.sleep(BEAT_S)
            if self._service.is_draining:
                return
            await self.look()

    async def beat(self, beat: Callable[[], None]) -> None:
        """Call `beat` once a second while the model is sound, until cancelled."""
        while True:
            if self.is_sound:
                beat()
            await asyncio.sleep(BEAT_S)

    async def look(self) -> None:
        """Look once, and say what has changed."""
        before, self._job = self._job, self._service.answering.model_job
        is_same_run = bool(self._job) and before == self._job
        self._silence.tick(counts=is_same_run)
        if not is_same_run:
            self._silence.reset()
        limit_s = MODEL_S * (1.0 if self._silence.is_measured else UNMEASURED)
        if (is_sound := self._silence.seconds < limit_s) != self.is_sound:
            self.is_sound = is_sound
            await self._tell(is_sound)

    async def _tell(self, is_sound: bool) -> None:
        if is_sound:
            _log.warning("the model answers again")
        else:
            _log.error("the model has been at one run for %.0f s and is out of service", self._silence.seconds)
        self._service.ready(is_ready=is_sound)
        await self._serving(is_sound)
