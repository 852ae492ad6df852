"""Calls of the upstream on behalf of one request: the weak model with what signals there are, and every call counted.

`CompletionSoFar` in, which takes each call; replies out.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Iterator
from typing import Any

from turnout.serving.bundles.ladder import Rung
from turnout.serving.observe.metrics import ServerMetrics
from turnout.serving.protocols.http.chat.chunks import can_be_chunks
from turnout.serving.protocols.http.chat.dialects import CHAT, Body
from turnout.serving.protocols.http.chat.told import CompletionSoFar, UpstreamCall
from turnout.serving.protocols.http.chat.upstream import Upstream, UpstreamFailed, UpstreamReply

REFUSES_S = 600.0
"""How long a model that refused log-probabilities is not asked for them again."""
REFUSES_SIGNALS = frozenset({400, 422})


class Calling:
    """Calls the upstream, and remembers which models give no log-probabilities."""

    def __init__(self, upstream: Upstream, metrics: ServerMetrics) -> None:
        """Take who answers, and what counts."""
        self._upstream = upstream
        self._metrics = metrics
        self._refusing: dict[str, float] = {}

    async def whole(self, told: CompletionSoFar, body: Body, rung: Rung, deadline_s: float) -> UpstreamReply:
        """Return a whole reply of a rung to a body; raises `UpstreamFailed` where there is none by the deadline."""
        asked = told.asked
        sent = asked.dialect.at_rung(body, rung.model, rung.effort)
        return await self._upstream.call("POST", asked.dialect.path, sent, asked.headers, deadline_s)

    async def weak(self, told: CompletionSoFar, body: Body, rung: Rung, deadline_s: float) -> UpstreamReply | None:
        """Return the weak model's answer with what signals there are; None where it gave none, which is counted then.

        Raises:
            UpstreamFailed: no reply by the deadline.
        """
        speaks = told.asked.dialect
        own = told.asked.wants_logprobs or speaks.forbids_logprobs(body)  # the caller's own word, asked once
        bodies = [] if self._refuses(rung.model) and not own else [speaks.with_signals(body)]
        bodies += [] if own else [speaks.without_signals(body)]
        for number, asks in enumerate(bodies):
            reply = await self.whole(told, asks, rung, deadline_s)
            if reply.is_ok:
                if number:
                    self._refusing[rung.model] = time.monotonic() + REFUSES_S
                return reply
            self.count(told, "weak", rung, str(reply.status), latency_ms=reply.latency_ms)
            if reply.status not in REFUSES_SIGNALS:
                return None
        return None

    def answered(self, told: CompletionSoFar, tier: str, rung: Rung, reply: UpstreamReply) -> dict[str, Any] | None:
        """Return what a whole reply answers, counted, and kept where exploration wants it; None where that is nothing.

        What its caller wants in chunks, and no chunks can be made of, is no answer either.

        Raises:
            UpstreamFailed: it is no JSON object, and not counted yet.
        """
        completion = reply.json()
        speaks = told.asked.dialect
        is_answer = speaks.is_answer(completion) or speaks.is_pending(completion)
        if told.asked.is_stream and speaks is CHAT:
            is_answer = is_answer and can_be_chunks(completion)
        self.count(told, tier, rung, "ok" if is_answer else "no_answer", completion.get("usage"), reply.latency_ms)
        told.keep(tier, completion, reply.latency_ms)
        return completion if is_answer else None

    @contextlib.contextmanager
    def counted(self, told: CompletionSoFar, tier: str, rung: Rung, *, is_self_check: bool = False) -> Iterator[None]:
        """Count the call of this block where it ends without a reply: nobody gave one, or its caller left."""
        try:
            yield
        except UpstreamFailed as failed:
            self.count(told, tier, rung, failed.why, is_self_check=is_self_check)
            raise
        except asyncio.CancelledError:
            self.count(told, tier, rung, "left", is_self_check=is_self_check)
            raise

    def began(self, told: CompletionSoFar, tier: str, rung: Rung, latency_ms: float) -> None:
        """Tell of a stream that began; it is counted once it has ended."""
        told.calls.append(UpstreamCall(tier, rung.model, "ok", None, latency_ms, rung=rung.name))

    def ended(self, told: CompletionSoFar, result: str) -> None:
        """Count the stream that began last, and tell how it ended."""
        told.calls[-1] = dataclasses.replace(told.calls[-1], result=result)
        self._metrics.upstream(told.calls[-1].tier, result)

    def count(
        self,
        told: CompletionSoFar,
        tier: str,
        rung: Rung,
        result: str,
        usage: Any = None,
        latency_ms: float | None = None,
        *,
        is_self_check: bool = False,
    ) -> None:
        """Count a call, and tell what became of it."""
        told.calls.append(UpstreamCall(tier, rung.model, result, usage, latency_ms, is_self_check, rung.name))
        self._metrics.upstream(tier, result)

    def unasked(self, tier: str) -> None:
        """Count a call that was wanted and can't be made."""
        self._metrics.upstream(tier, "unasked")

    def _refuses(self, model: str) -> bool:
        """Whether a model refused to give log-probabilities a while ago: asking is a call that every TRY waits for."""
        return self._refusing.get(model, 0.0) > time.monotonic()
