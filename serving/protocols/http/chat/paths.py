"""The paths that lead to the upstream: `POST /v1/chat/completions`, `/v1/responses` and `GET /v1/models`.

A request of OpenAI's SDK in, its answer out, with `x-turnout-*` headers. Errors have OpenAI's form.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from turnout.serving.gateways.aliases import AUTO, PREFIX
from turnout.serving.protocols.http.bodies import Bodies, while_there
from turnout.serving.protocols.http.calls import HttpCall, json_response
from turnout.serving.protocols.http.chat.asked import ChatCall, read_asked
from turnout.serving.protocols.http.chat.calling import Calling
from turnout.serving.protocols.http.chat.dialects import CHAT, RESPONSES, Dialect
from turnout.serving.protocols.http.chat.flow import ChatFlow
from turnout.serving.protocols.http.chat.second import SecondAnswers
from turnout.serving.protocols.http.chat.told import CompletionSoFar
from turnout.serving.protocols.http.chat.upstream import Upstream, UpstreamFailed
from turnout.serving.service.service import RouterService
from turnout.serving.settings import ServerSettings

Page = Callable[[Request], Awaitable[Response]]

MAX_BODY_BYTES = 50 << 20
"""OpenAI's own limit, pictures included; the router is shown the texts alone."""
MODELS_S = 5.0
REPORT_S = 5.0
SLACK_S = 1.0
"""After the deadline, for the answer that says so."""
STATUSES = {"timeout": 504, "unreachable": 502, "too_large": 502, "not_json": 502}


class ChatPaths:
    """The handlers behind the paths."""

    def __init__(self, service: RouterService, settings: ServerSettings) -> None:
        """Take what decides, and where the upstream is."""
        self._service = service
        self._settings = settings
        self._bodies = Bodies(MAX_BODY_BYTES)
        self._upstream = Upstream(settings.upstream)
        calling = Calling(self._upstream, service.metrics)
        self._flow = ChatFlow(service, self._upstream, calling, self_check=settings.self_check)
        self._second = SecondAnswers(calling, service.answering.lifecycle, settings.upstream_timeout_s)
        self._reporting: set[asyncio.Task[None]] = set()
        self._watched = service.watched("http.chat", self._behaviour)

    async def completions(self, request: Request) -> Response:
        """Answer one chat completion."""
        return await self._answered(request, CHAT)

    async def responses(self, request: Request) -> Response:
        """Answer one call of the Responses API; its streams are routed by the prompt alone."""
        return await self._answered(request, RESPONSES)

    async def _answered(self, request: Request, dialect: Dialect) -> Response:
        raw = await self._bodies.read(request)
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = read_asked(raw, headers, self._settings.upstream_timeout_s, dialect)
        call = HttpCall(request.headers.items(), asked.deadline_s + SLACK_S)
        response: Response = await while_there(request, self._watched(asked, call), call)
        return response

    async def models(self, request: Request) -> Response:
        """List the names that stand for the router, and the upstream's models where it tells them."""
        manifest = self._service.answering.lifecycle.lineup.default.manifest
        names = [AUTO, *(f"{PREFIX}{policy.name}" for policy in manifest.policies)]
        data: list[Any] = [{"id": name, "object": "model", "created": 0, "owned_by": "turnout"} for name in names]
        headers = dict(request.headers.items())
        with contextlib.suppress(UpstreamFailed):
            reply = await self._upstream.call("GET", "/models", None, headers, time.monotonic() + MODELS_S)
            found = reply.json().get("data") if reply.is_ok else None
            data += found if isinstance(found, list) else []
        return json_response({"object": "list", "data": data})

    def with_errors(self, page: Page) -> Page:
        """Return a page whose errors have OpenAI's form; nothing of a request is in them."""

        async def answered(request: Request) -> Response:
            try:
                response = await page(request)
            except UpstreamFailed as failed:
                return _error(STATUSES.get(failed.why, 502), f"the upstream gave no answer: {failed.why}", failed.why)
            if response.status_code >= 400 and response.media_type == "application/json":
                with contextlib.suppress(msgspec.MsgspecError):
                    said = msgspec.json.decode(response.body, type=dict[str, Any])
                    if isinstance(said.get("code"), str) and "error" not in said:
                        return _error(response.status_code, str(said.get("message", "")), said["code"])
            return response

        return answered

    async def close(self) -> None:
        """Close the connections to the upstream, once the last outcomes are handed in; second answers are given up."""
        if self._reporting:
            _, late = await asyncio.wait(self._reporting, timeout=REPORT_S)
            for one in late:
                one.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._upstream.close()

    async def _behaviour(self, asked: ChatCall, call: HttpCall) -> Response:
        return await self._service.or_status(self._answer(asked), call)  # type: ignore[no-any-return]

    async def _answer(self, asked: ChatCall) -> Response:
        try:
            if asked.alias is None:
                return await self._flow.as_it_is(asked)
            self._service.check_warm()
            told = await self._flow.begun(asked)
            try:
                return await self._flow.answer(told)
            finally:  # calls that were made are paid for, whether anybody is there for their answer or not
                self._report_soon(told)
        except UpstreamFailed as failed:
            return _error(STATUSES.get(failed.why, 502), f"the upstream gave no answer: {failed.why}", failed.why)

    def _report_soon(self, told: CompletionSoFar) -> None:
        if self._service.outcomes.spool is not None:
            reporting = asyncio.get_running_loop().create_task(self._report(told))
            self._reporting.add(reporting)
            reporting.add_done_callback(self._reporting.discard)

    async def _report(self, told: CompletionSoFar) -> None:
        """Hand in what became of each call, of a stream once it has ended; the caller does not wait for the disk.

        Then the other model answers, where exploration wants both: only a decision log has a use for that.
        """
        try:
            if told.streaming is not None:
                await told.streaming.wait()
        finally:  # a server that ends does not wait for every stream
            n_reported = len(told.calls)
            await self._hand_in(told, 0)
        if self._service.answering.decision_log is not None:
            await self._second.obtain(told)
            await self._hand_in(told, n_reported)

    async def _hand_in(self, told: CompletionSoFar, since: int) -> None:
        for raw, answer in told.outcomes(since):
            with contextlib.suppress(Exception):  # counted by the spool; a report is worth no failure
                await self._service.outcomes.take_in(raw, time.monotonic() + REPORT_S, answer)


def _error(status: int, message: str, code: str) -> Response:
    kind = "invalid_request_error" if status < 500 else "upstream_error"
    return json_response({"error": {"message": message, "type": kind, "param": None, "code": code}}, status)
