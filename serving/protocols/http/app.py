"""The paths of the HTTP port: decisions, health, metrics, the bundle's report, a page to try a prompt.

    body -> size, token, deadline -> room -> bytes of a RouteRequest -> RouterService.decide -> JSON

A caller that closes its connection takes its request out of the queue, as a cancelled RPC does. A request takes
room once its body is there: bodies that are slow to come keep nobody out. Health takes none, nor do calls
that the upstream answers, which wait for it and not for this process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from turnout.serving.access.access import admit
from turnout.serving.access.tokens import TokensFile
from turnout.serving.errors import UnknownName
from turnout.serving.observe.calls import Behaviour
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.protocols.http.bodies import Bodies, Room, TooLarge, while_there
from turnout.serving.protocols.http.calls import (
    OWN_TOKEN,
    TOO_LARGE,
    CallFailed,
    HttpCall,
    deadline_of,
    error_response,
    json_response,
)
from turnout.serving.protocols.http.pages import metrics_page, report_page
from turnout.serving.protocols.http.route_json import read_check, read_route, write_message
from turnout.serving.protocols.http.systemone import read_systemone, request_of, write_systemone
from turnout.serving.protocols.http.trying import Unlike, WordsDesk, read_words, try_page
from turnout.serving.service.service import RouterService
from turnout.serving.service.status import Failure, failure_of
from turnout.serving.settings import ServerSettings

if TYPE_CHECKING:
    from turnout.serving.protocols.http.chat.paths import ChatPaths

Page = Callable[[Request], Awaitable[Response]]
Write = Callable[[Any, HttpCall], Any]

METHOD_NOT_ALLOWED = 405


class HttpPaths:
    """The handlers behind the paths."""

    def __init__(self, service: RouterService, settings: ServerSettings, tokens: TokensFile | None) -> None:
        """Take what decides, the limits, and who is let in; None lets everybody in."""
        self._service = service
        self._settings = settings
        self._tokens = tokens
        self._room = Room(settings.max_http_requests)
        self._bodies = Bodies(settings.max_request_bytes)
        self._route = service.watched("http.route", self._behaviour(self._decide_route))
        self._check = service.watched("http.check", self._behaviour(self._decide_check))
        self._chat = _chat_paths(service, settings) if settings.upstream else None
        self._systemone = service.watched("http.systemone", self._behaviour(self._decide_systemone))
        self._words = service.watched("http.words", self._behaviour(self._look_at_words))
        self._words_desk = WordsDesk()
        self._model = service.watched("http.model", service.describe_model)

    def app(self) -> Starlette:
        """Return the application."""
        route = self._guarded("Route", self._answer(self._route, lambda response, _: write_message(response)))
        check = self._guarded("Check", self._answer(self._check, lambda response, _: write_message(response)))
        systemone = self._guarded("Route", self._answer(self._systemone, self._write_systemone))
        words = self._guarded("Route", self._answer(self._words, lambda answer, _: answer))
        report = self._guarded("DescribeModel", self._with_room(self._report))
        return Starlette(
            routes=[
                Route("/v1/route", route, methods=["POST"]),
                Route("/v1/check", check, methods=["POST"]),
                Route("/v1/systemone", systemone, methods=["POST"]),
                Route("/v1/words", words, methods=["POST"]),
                Route("/v1/model", self._guarded("DescribeModel", self._with_room(self._describe))),
                Route("/healthz", self._healthz),
                Route("/readyz", self._readyz),
                Route("/metrics", self._guarded(None, self._with_room(self._metrics))),
                Route("/report", _to_report),
                Route("/report/{path:path}", report),
                *([] if self._chat is None else self._chat_routes(self._chat)),
                *([Route("/", self._open(self._with_room(self._try)))] if self._settings.page else []),
            ],
            exception_handlers={HTTPException: _no_such_call},
        )

    def _chat_routes(self, chat: ChatPaths) -> list[Route]:
        """Return the paths that lead to the upstream; Authorization there is the upstream's own key."""

        def guarded(page: Page) -> Page:
            return chat.with_errors(self._guarded("Route", page, OWN_TOKEN))

        return [
            Route("/v1/chat/completions", guarded(chat.completions), methods=["POST"]),
            Route("/v1/responses", guarded(chat.responses), methods=["POST"]),
            Route("/v1/models", guarded(chat.models)),
        ]

    async def close(self) -> None:
        """Let go of the connections to the upstream."""
        if self._chat is not None:
            await self._chat.close()

    def _behaviour(self, decide: Behaviour) -> Behaviour:
        async def behaviour(body: bytes, call: HttpCall) -> Any:
            return await self._service.or_status(decide(body, call), call)

        return behaviour

    async def _decide_route(self, body: bytes, call: HttpCall) -> Any:
        return await self._service.decide(read_route(body), call.deadline_s)

    async def _decide_check(self, body: bytes, call: HttpCall) -> Any:
        return await self._service.judge(read_check(body), call.deadline_s)

    async def _decide_systemone(self, body: bytes, call: HttpCall) -> Any:
        call.asked = read_systemone(body)
        return await self._service.decide(request_of(call.asked.state), call.deadline_s)

    async def _look_at_words(self, body: bytes, _: HttpCall) -> Unlike:
        self._service.check_warm()
        asked = read_words(body)
        lineup = self._service.answering.lifecycle.lineup
        return await self._words_desk.answer(asked.text, lineup.find(asked.bundle).bundle)

    def _write_systemone(self, response: Any, call: HttpCall) -> Any:
        lineup = self._service.answering.lifecycle.lineup
        try:
            answered = lineup.find(response.bundle)  # a canary has rungs of its own
        except UnknownName:  # reloaded since
            answered = lineup.default
        return write_systemone(call.asked, response, [rung.name for rung in answered.ladder])

    def _guarded(self, method: str | None, page: Page, header: str = "authorization") -> Page:
        """Return a page behind the tokens, whose failures are statuses of the contract, without text of a request."""

        async def admitted(request: Request) -> Response:
            if self._tokens is not None:
                admit(self._tokens, request.headers.getlist(header), method)
            return await page(request)

        return self._open(admitted)

    def _open(self, page: Page) -> Page:
        """Return a page for everybody, whose failures are statuses likewise."""

        async def answered(request: Request) -> Response:
            try:
                return await page(request)
            except CallFailed as failed:
                return error_response(failed.failure)
            except TooLarge as error:
                return error_response(failure_of(error), TOO_LARGE)
            except Exception as error:  # noqa: BLE001  # whatever it is, its text must not reach the caller
                return error_response(failure_of(error))

        return answered

    def _answer(self, behaviour: Behaviour, write: Write) -> Page:
        async def answer(request: Request) -> Response:
            call = HttpCall(request.headers.items(), deadline_of(request.headers, time.monotonic()))
            body = await self._bodies.read(request)
            with self._room.taken():
                return json_response(write(await while_there(request, behaviour(body, call), call), call))

        return answer

    def _with_room(self, page: Page) -> Page:
        async def roomy(request: Request) -> Response:
            with self._room.taken():
                return await page(request)

        return roomy

    async def _healthz(self, _: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _readyz(self, _: Request) -> Response:
        return PlainTextResponse("ready\n") if self._service.is_ready else PlainTextResponse("not ready\n", 503)

    async def _try(self, _: Request) -> Response:
        return try_page()

    async def _describe(self, request: Request) -> Response:
        asked = pb.DescribeModelRequest(bundle=request.query_params.get("bundle", ""))
        call = HttpCall(request.headers.items(), None)
        return json_response(write_message(await self._model(asked.SerializeToString(), call)))

    async def _metrics(self, _: Request) -> Response:
        return await asyncio.to_thread(metrics_page, self._service.metrics)

    async def _report(self, request: Request) -> Response:
        bundle = self._service.answering.lifecycle.lineup.find(request.query_params.get("bundle", "")).bundle
        return await asyncio.to_thread(report_page, bundle, request.path_params["path"])


async def _to_report(request: Request) -> Response:
    return RedirectResponse(request.url.replace(path="/report/"), 308)


def _chat_paths(service: RouterService, settings: ServerSettings) -> ChatPaths:
    from turnout.serving.protocols.http.chat.paths import ChatPaths  # noqa: PLC0415  # brings the HTTP client

    return ChatPaths(service, settings)


async def _no_such_call(_: Request, error: Exception) -> Response:
    """Return what Starlette has no path or method for in the shape of all errors: 404 and 405."""
    status, headers = getattr(error, "status_code", 500), getattr(error, "headers", None)
    message = "this path does not take that method" if status == METHOD_NOT_ALLOWED else "there is nothing at this path"
    return error_response(Failure(grpc.StatusCode.UNIMPLEMENTED, message), status, headers)
