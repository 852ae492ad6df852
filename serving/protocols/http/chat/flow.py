"""The way of a chat completion: route, have a model answer, check where that was wanted, escalate.

    WEAK     weak model --- fails ---> strong model
    TRY      weak model, whole -> Check -> accepted: its answer      escalated, failed, too late: strong model
    STRONG   strong model
    of a ladder, a rung between stands in the place of WEAK, and what is escalated goes to it first

`ChatCall` in, a Starlette response out. Whatever fails before the strong model, the strong model answers, within the
deadline: the weak model gets half of the time at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response

from turnout.serving.bundles.ladder import Rung
from turnout.serving.client.routed import code_name, ms_since
from turnout.serving.errors import UnknownName
from turnout.serving.gateways.completions import self_check_body, self_check_of
from turnout.serving.protocols.http.chat.asked import ChatCall
from turnout.serving.protocols.http.chat.calling import Calling
from turnout.serving.protocols.http.chat.chunks import chunks_of, with_usage
from turnout.serving.protocols.http.chat.dialects import CHAT
from turnout.serving.protocols.http.chat.lasting import LastingStream
from turnout.serving.protocols.http.chat.told import CompletionSoFar
from turnout.serving.protocols.http.chat.upstream import (
    Upstream,
    UpstreamFailed,
    UpstreamReply,
    shown_headers,
    whole_of,
)
from turnout.serving.service.service import RouterService
from turnout.serving.wire.asking import Routed, routed_of
from turnout.serving.wire.asking_check import Judged, check_request, judged_of

WEAK_SHARE = 0.5
"""Of the time that is left, for the weak model's answer."""
ROUTE_S = 1.0
"""Longest wait for a route or a verdict: a hundred times what an idle server takes."""
EVENTS = "text/event-stream; charset=utf-8"


class ChatFlow:
    """Answers chat completions through the upstream."""

    def __init__(self, service: RouterService, upstream: Upstream, calling: Calling, *, self_check: bool) -> None:
        """Take what decides, who answers, who calls, and whether the weak model is asked if its answer is right."""
        self._service = service
        self._upstream = upstream
        self._calling = calling
        self._self_check = self_check

    async def begun(self, asked: ChatCall) -> CompletionSoFar:
        """Return what is known of a call once it is routed."""
        return CompletionSoFar(asked, await self._routed(asked))

    async def answer(self, told: CompletionSoFar) -> Response:
        """Return the response; a stream's body is yet to come then. What becomes of the call is told in any case.

        Raises:
            UpstreamFailed: the strong model gave no reply.
        """
        routed = told.routed
        if routed.action == "try":
            response = await self._tried(told)
            if response is None:
                response = await self._climbed(told)
        elif routed.tier != "strong":
            response = await self._from(told, routed.tier, rung_of_reply(routed))
        else:
            response = None
        if response is None:
            response = await self._from(told, "strong", self._strong(routed), is_last=True)
        assert response is not None
        return response

    async def as_it_is(self, asked: ChatCall) -> Response:
        """Return the answer of the model that the caller names itself; raises `UpstreamFailed`."""
        model = str(asked.body.get("model", ""))
        told = CompletionSoFar(asked, Routed(model=model, tier="strong", reason="PASSED", latency_ms=0.0))
        response = await self._from(told, "other", Rung(model, model), is_last=True)
        assert response is not None
        return response

    async def _routed(self, asked: ChatCall) -> Routed:
        started = time.perf_counter()
        try:
            raw = asked.route_request
        except Exception:  # noqa: BLE001  # a header that no field holds, say; the strong model answers
            return self._fallback("invalid_argument", started)
        result = await self._service.answering.result(raw, _sooner(asked.deadline_s, ROUTE_S))
        if result.HasField("failure"):
            return self._fallback(code_name(result.failure.code), started)
        return routed_of(result.response, ms_since(started)) or self._fallback("bad_response", started)

    def _fallback(self, why: str, started: float) -> Routed:
        top = self._service.answering.lifecycle.lineup.default.ladder[-1]
        return Routed(
            model=top.model,
            tier="strong",
            reason="FALLBACK",
            latency_ms=ms_since(started),
            fallback_reason=why,
            rung=top.name,
            effort=top.effort,
        )

    def _strong(self, routed: Routed) -> Rung:
        """Return the top of the ladder that the request was routed in."""
        if routed.tier == "strong":
            return rung_of_reply(routed)
        lineup = self._service.answering.lifecycle.lineup
        try:
            return lineup.find(routed.bundle).ladder[-1]
        except UnknownName:  # replaced in this very moment
            return lineup.default.ladder[-1]

    async def _climbed(self, told: CompletionSoFar) -> Response | None:
        """Return the answer of the rung between that a tried request was escalated to; None where that is the top."""
        judged = told.judged
        if judged is None or judged.tier != "between":
            return None
        return await self._from(told, "between", rung_of_reply(judged))

    async def _tried(self, told: CompletionSoFar) -> Response | None:
        """Return the weak model's answer where it was accepted; None where the strong model is to answer."""
        asked, rung = told.asked, rung_of_reply(told.routed)
        deadline_s = _share_of(asked.deadline_s, WEAK_SHARE)
        try:
            with self._calling.counted(told, "weak", rung):
                reply = await self._calling.weak(told, asked.body, rung, deadline_s)
                completion = None if reply is None else self._calling.answered(told, "weak", rung, reply)
        except UpstreamFailed:
            return None
        if reply is None or completion is None:
            return None
        told.judged = await self._judged(told, completion, reply.latency_ms, deadline_s)
        if not told.judged.is_accepted:
            return None
        shown = completion if asked.wants_logprobs else asked.dialect.without_logprobs(completion)
        return _shown(told, rung, shown, reply.headers)

    async def _judged(self, told: CompletionSoFar, completion: Any, latency_ms: float, deadline_s: float) -> Judged:
        started = time.perf_counter()
        asked = told.asked
        told_right = None
        if self._self_check and asked.dialect.can_self_check:
            told_right = await self._told_right(told, completion, deadline_s)
            told.keep("weak", completion, latency_ms, told_right)
        answer = asked.dialect.answer_item(completion, latency_ms, told_right)
        try:
            raw = check_request(answer, asked.item, "", "", told.routed).SerializeToString()
        except Exception:  # noqa: BLE001  # whatever an upstream wrote there: no verdict, and the strong model
            return self._escalated(told.routed, "invalid_argument", started)
        result = await self._service.checking.result(raw, _sooner(asked.deadline_s, ROUTE_S))
        if result.HasField("failure"):
            return self._escalated(told.routed, code_name(result.failure.code), started)
        judged = judged_of(result.response, ms_since(started))
        return judged or self._escalated(told.routed, "bad_response", started)

    def _escalated(self, routed: Routed, why: str, started: float) -> Judged:
        top = self._strong(routed)
        return Judged(
            verdict="escalate",
            model=top.model,
            reason="FALLBACK",
            latency_ms=ms_since(started),
            fallback_reason=why,
            rung=top.name,
            effort=top.effort,
        )

    async def _told_right(self, told: CompletionSoFar, completion: Any, deadline_s: float) -> float | None:
        """Ask the weak model whether its answer is right; None where it does not say."""
        rung = rung_of_reply(told.routed)
        try:
            with self._calling.counted(told, "weak", rung, is_self_check=True):
                reply = await self._calling.whole(told, self_check_body(told.asked.body, completion), rung, deadline_s)
                said = reply.json() if reply.is_ok else None
        except UpstreamFailed:
            return None
        if said is None:
            self._calling.count(told, "weak", rung, str(reply.status), is_self_check=True)
            return None
        self._calling.count(told, "weak", rung, "ok", said.get("usage"), reply.latency_ms, is_self_check=True)
        return self_check_of(said)

    async def _from(self, told: CompletionSoFar, tier: str, rung: Rung, *, is_last: bool = False) -> Response | None:
        """Return the response of one rung; None where it failed and the strong one may help.

        Raises:
            UpstreamFailed: no reply, from the last that can be asked.
        """
        asked = told.asked
        deadline_s = asked.deadline_s if is_last else _share_of(asked.deadline_s, WEAK_SHARE)
        try:
            with self._calling.counted(told, tier, rung):
                if asked.is_stream:
                    return await self._streamed(told, tier, rung, deadline_s, is_last=is_last)
                reply = await self._calling.whole(told, asked.body, rung, deadline_s)
                return self._whole(told, tier, rung, reply, is_last=is_last)
        except UpstreamFailed:
            if is_last:
                raise
            return None

    def _whole(
        self, told: CompletionSoFar, tier: str, rung: Rung, reply: UpstreamReply, *, is_last: bool
    ) -> Response | None:
        earlier, body = told.usage, reply.body
        completion = None
        if reply.is_ok:
            completion = self._calling.answered(told, tier, rung, reply)
        else:
            self._calling.count(told, tier, rung, str(reply.status), None, reply.latency_ms)
        if completion is None and not is_last:
            return None
        if completion is not None and told.asked.is_stream and told.asked.dialect is CHAT:
            return _shown(told, rung, completion, reply.headers)
        if completion is not None and earlier is not None:
            body = msgspec.json.encode({**completion, "usage": told.usage})
        return Response(body, reply.status, {**reply.headers, **told.headers(rung)})

    async def _streamed(
        self, told: CompletionSoFar, tier: str, rung: Rung, deadline_s: float, *, is_last: bool
    ) -> Response | None:
        earlier = told.usage
        started_s = time.monotonic()
        asked = told.asked
        body = asked.dialect.at_rung(asked.body, rung.model, rung.effort)
        reply = None
        async with contextlib.AsyncExitStack() as stack:
            stream = self._upstream.stream("POST", asked.dialect.path, body, asked.headers, deadline_s)
            response = await stack.enter_async_context(stream)
            if _is_stream(response.status_code, response.headers.get("content-type", ""), is_last=is_last):
                kept_open = stack.pop_all()
            else:
                reply = await whole_of(response, started_s, deadline_s)
        if reply is not None:
            return self._whole(told, tier, rung, reply, is_last=is_last)
        self._calling.began(told, tier, rung, (time.monotonic() - started_s) * 1e3)
        headers = {**shown_headers(response.headers), **told.headers(rung)}
        streaming = told.streaming = asyncio.Event()
        gathered = asked.dialect.gathering() if told.routed.wants_both else None
        passed = with_usage(response.aiter_bytes(), earlier, told.used, None if gathered is None else gathered.take)

        def ended(result: str) -> None:
            if gathered is not None:
                told.keep(tier, gathered.whole)
            self._calling.ended(told, result)
            streaming.set()

        return LastingStream(passed, kept_open, ended, response.status_code, headers)


def _shown(told: CompletionSoFar, rung: Rung, completion: dict[str, Any], headers: Mapping[str, str]) -> Response:
    """Return an answer that came whole as its caller asked for it, with the usage of all calls and these headers."""
    asked = told.asked
    if told.usage is not None:
        completion = {**completion, "usage": told.usage}
    kept = {name: value for name, value in headers.items() if name != "content-type"} | told.headers(rung)
    if not asked.is_stream:
        return Response(msgspec.json.encode(completion), 200, kept, "application/json")
    chunks = chunks_of(completion, includes_usage=asked.includes_usage)
    return Response(b"".join(chunks), 200, {**kept, "cache-control": "no-cache"}, EVENTS)


def _is_stream(status: int, kind: str, *, is_last: bool) -> bool:
    """Return whether a reply passes through as it comes; the last one does under any name that is not that of JSON."""
    is_events, is_json = (kind.lower().startswith(name) for name in ("text/event-stream", "application/json"))
    return 200 <= status < 300 and (is_events or (is_last and not is_json))


def rung_of_reply(reply: Routed | Judged) -> Rung:
    """Return the rung that a reply names; of an older server's the model."""
    return Rung(reply.rung or reply.model, reply.model, reply.effort)


def _sooner(deadline_s: float, within_s: float) -> float:
    return min(deadline_s, time.monotonic() + within_s)


def _share_of(deadline_s: float, share: float) -> float:
    now_s = time.monotonic()
    return now_s + share * max(0.0, deadline_s - now_s)
