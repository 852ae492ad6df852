"""The other model's answer, where exploration wants both: asked for once the caller has his, and kept for training.

    caller's answer, whole or streamed to its end ---> other model, whole ---> outcome of each in the spool

`CompletionSoFar` in, one call more in it. Nobody waits for it, no failure of it reaches anybody, and few run at once.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Literal

from turnout.serving.bundles.ladder import Rung
from turnout.serving.errors import UnknownName
from turnout.serving.protocols.http.chat.calling import Calling
from turnout.serving.protocols.http.chat.told import CompletionSoFar
from turnout.serving.protocols.http.chat.upstream import UpstreamFailed
from turnout.serving.service.lifecycle import Lifecycle

MAX_AT_ONCE = 16
"""Of one worker: 100 requests a second, of which 5 % want both, at 3 s each. One that hangs holds no more."""
MAX_BYTES = 64 << 20
"""Of the bodies that those calls hold together: one with pictures may have 50 MiB."""

OtherTier = Literal["weak", "between", "strong"]


class SecondAnswers:
    """Obtains second answers, a bounded number at once."""

    def __init__(self, calling: Calling, lifecycle: Lifecycle, within_s: float) -> None:
        """Take who calls, whose models they are, and how long one may take."""
        self._calling = calling
        self._lifecycle = lifecycle
        self._within_s = within_s
        self._n_running = self._n_bytes = 0

    async def obtain(self, told: CompletionSoFar) -> None:
        """Have the other model answer, where exploration wanted that and nobody asked it yet.

        What can't be asked, for its state at the vendor or for want of room, is counted as `unasked`.
        """
        tier = other_tier(told)
        if tier is None:
            return
        body = told.asked.dialect.repeated(told.asked.body)
        tier, rung = self._rung(told, tier)
        with self._room(told.asked.n_bytes) as has_room:
            if body is None or rung is None or not has_room:
                self._calling.unasked(tier)
                return
            try:
                await self._ask(told, tier, rung, body)
            except UpstreamFailed as failed:
                self._calling.count(told, tier, rung, failed.why)

    async def _ask(self, told: CompletionSoFar, tier: OtherTier, rung: Rung, body: dict[str, object]) -> None:
        deadline_s = time.monotonic() + self._within_s
        if tier == "weak":
            reply = await self._calling.weak(told, body, rung, deadline_s)
            if reply is None:
                return
        else:
            reply = await self._calling.whole(told, body, rung, deadline_s)
        if not reply.is_ok:
            self._calling.count(told, tier, rung, str(reply.status), None, reply.latency_ms)
            return
        self._calling.answered(told, tier, rung, reply)

    def _rung(self, told: CompletionSoFar, tier: OtherTier) -> tuple[OtherTier, Rung | None]:
        """Return the other rung of the ladder that the request was routed in; None where the bundle is gone by now."""
        routed = told.routed
        try:
            ladder = self._lifecycle.lineup.find(routed.bundle).ladder
        except UnknownName:
            return tier, None
        if routed.other_rung:
            own = Rung(routed.other_rung, routed.other_model, routed.other_effort)
            return ("weak" if own.name == ladder[0].name else tier), own
        return tier, ladder[0] if tier == "weak" else ladder[-1]

    @contextlib.contextmanager
    def _room(self, n_bytes: int) -> Iterator[bool]:
        if self._n_running >= MAX_AT_ONCE or self._n_bytes + n_bytes > MAX_BYTES:
            yield False
            return
        self._n_running += 1
        self._n_bytes += n_bytes
        try:
            yield True
        finally:
            self._n_running -= 1
            self._n_bytes -= n_bytes


def other_tier(told: CompletionSoFar) -> OtherTier | None:
    """Return the tier that is yet to be asked; None where both were, or where the caller got no whole answer.

    Of a ladder it is that of the rung which the decision names, where the one that was taken has answered.
    """
    routed = told.routed
    calls = [call for call in told.calls if not call.is_self_check]
    asked = {call.tier for call in calls}
    if not routed.wants_both or not calls or calls[-1].result != "ok":
        return None
    if routed.other_rung:
        rungs = {call.rung for call in told.calls}
        if routed.tier not in told.answers or routed.other_rung in rungs:
            return None
        return "strong" if routed.tier != "strong" else "between"
    if len(asked) != 1 or asked != told.answers.keys():
        return None
    return "strong" if "weak" in asked else "weak"
