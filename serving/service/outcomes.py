"""The path of a `ReportOutcome`: read, check, hand to the spool, answer once it is on the disk.

Bytes of the request in, `ReportOutcomeResponse` out. Touches neither the model's thread nor its queue:
outcomes wait for the disk on the spool's thread, and what is in flight is bounded by its queue.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import msgspec

from turnout.serving.access.access import check_tenant
from turnout.serving.errors import DeadlineSpent, NotEnabled, NotServing, Overloaded
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.service.decision_log import DecisionLog
from turnout.serving.service.keeping import answer_fields
from turnout.serving.settings import ServerSettings, SettingsRefused
from turnout.serving.spool.decision import LogDecisions
from turnout.serving.spool.digests import digest_key
from turnout.serving.spool.framing import RecordKind
from turnout.serving.spool.outcome import Outcome, encode_outcome
from turnout.serving.spool.writer import CLOSE_S, SpoolFailed, SpoolFull, SpoolLimits, SpoolWriter
from turnout.serving.wire.asking_check import AnswerItem
from turnout.serving.wire.outcome import read_outcome

MAX_PUSHBACK_MS = 5_000

ANSWERED_TOGETHER = 8
"""Answers that one turn of the event loop begins: a disk that stalled lets go of thousands, and Route comes between."""

_log = logging.getLogger("turnout.spool")


class OutcomeIntake:
    """Takes in outcomes.

    Attributes:
        spool: where they go; None when the server keeps none.
    """

    def __init__(self, settings: ServerSettings, on_outcome: Callable[[Outcome], None] = lambda _: None) -> None:
        """Start the spool, if there is to be one.

        Args:
            settings: where it is, and its limits.
            on_outcome: told of each outcome that is on the disk.

        Raises:
            SettingsRefused: its folder can't be used.
        """
        self._on_outcome = on_outcome
        self._mode = settings.log_decisions
        self.spool: SpoolWriter | None = None
        self._waiters: dict[Future[None], list[asyncio.Future[None]]] = {}
        if settings.spool is None:
            return
        limits = SpoolLimits(
            max_file_bytes=settings.spool_max_file_bytes,
            max_age_s=settings.spool_max_age_s,
            max_pending_records=settings.spool_max_pending,
        )
        try:
            self.spool = SpoolWriter(settings.spool, limits)
        except OSError as error:
            raise SettingsRefused(f"spool: can't use {settings.spool}: {error.strerror or error}") from None

    def decision_log(self, settings: ServerSettings) -> DecisionLog | None:
        """Return a decision log into the same spool; None when none is kept. Raises as `__init__` does."""
        if self.spool is None or settings.spool is None or settings.log_decisions is LogDecisions.OFF:
            return None
        try:
            return DecisionLog(self.spool, settings.log_decisions, digest_key(settings.spool))
        except OSError as error:
            self.spool.close()
            raise SettingsRefused(f"log_decisions: {error.filename or settings.spool}: {error.strerror}") from None

    async def take_in(self, raw: bytes, deadline_s: float | None, answer: AnswerItem | None = None) -> Any:
        """Return the `ReportOutcomeResponse` once the outcome is on the disk.

        A call that is cancelled, or whose deadline passes, while it waits for the disk leaves its outcome in
        the spool: it is news all the same.

        Args:
            raw: the bytes of the request.
            deadline_s: when the caller stops waiting, on the monotonic clock; None for never.
            answer: what the model answered, where this server knows it and it is to be kept as prompts are.

        Raises:
            RequestError: any of those below; another exception is a fault of ours.
            NotEnabled: the server keeps no outcomes.
            InvalidRequest: the request is wrong.
            DeadlineSpent: nobody waits any more.
            Overloaded: the queue of the spool is full.
            NotServing: the disk is full or broken; another replica's may not be.
        """
        if self.spool is None:
            raise NotEnabled("this server keeps no outcomes; start it with --spool FOLDER")
        outcome = read_outcome(raw, time.time())
        check_tenant(outcome.tenant)
        if answer is not None:
            outcome = msgspec.structs.replace(outcome, **answer_fields(answer, self._mode))
        if deadline_s is not None and deadline_s <= time.monotonic():
            raise DeadlineSpent("the deadline passed before the outcome could be written")
        try:
            await self._written(self.spool.append(RecordKind.OUTCOME, encode_outcome(outcome)))
        except SpoolFull as error:
            raise Overloaded(str(error), min(max(math.ceil(error.wait_s * 1e3), 1), MAX_PUSHBACK_MS)) from None
        except SpoolFailed as error:
            raise NotServing(f"{error}; use another replica") from None
        self._on_outcome(outcome if outcome.text is None else msgspec.structs.replace(outcome, text=None))
        return pb.ReportOutcomeResponse()

    def _written(self, group: Future[None]) -> asyncio.Future[None]:
        """Return a future of this call alone for the one of its group: cancelling it harms no other."""
        loop = asyncio.get_running_loop()
        waiters = self._waiters.get(group)
        if waiters is None:
            waiters = self._waiters[group] = []
            group.add_done_callback(lambda group: loop.call_soon_threadsafe(self._release, group, loop))
        waiters.append(loop.create_future())
        return waiters[-1]

    def _release(self, group: Future[None], loop: asyncio.AbstractEventLoop) -> None:
        waiters = self._waiters[group]
        for waiter in waiters[:ANSWERED_TOGETHER]:
            if waiter.done():  # its caller gave up
                continue
            if group.exception() is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(SpoolFailed(str(group.exception())))
        del waiters[:ANSWERED_TOGETHER]
        if waiters:
            loop.call_soon(self._release, group, loop)
        else:
            del self._waiters[group]

    def close(self, within_s: float = CLOSE_S) -> None:
        """Write what waits and seal the file; what the disk does not take within `within_s` is given up."""
        if self.spool is not None:
            self.spool.close(within_s)
            counts = self.spool.counts
            _log.info("spool: %d records with %d fsyncs in %d files", counts.records, counts.syncs, counts.files)
