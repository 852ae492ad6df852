"""The paths of the HTTP port: decisions, health, metrics, the bundle's report.

    body -> size, token, deadline -> bytes of a RouteRequest -> RouterService.decide -> JSON

A caller that closes its connection takes its request out of the queue, as a cancelled RPC does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from turnout.serving.access.access import admit
from turnout.serving.access.tokens import TokensFile
from turnout.serving.errors import DeadlineSpent, RequestError
from turnout.serving.observe.calls import Behaviour
from turnout.serving.protocols.http.calls import (
    TOO_LARGE,
    CallFailed,
    HttpCall,
    deadline_of,
    error_response,
    json_response,
)
from turnout.serving.protocols.http.pages import metrics_page, report_page
from turnout.serving.protocols.http.route_json import read_route, write_route
from turnout.serving.protocols.http.systemone import read_systemone, request_of, write_systemone
from turnout.serving.service.service import RouterService
from turnout.serving.service.status import Failure, failure_of
from turnout.serving.settings import ServerSettings

Page = Callable[[Request], Awaitable[Response]]
Write = Callable[[Any, HttpCall], Any]

GONE = Failure(grpc.StatusCode.CANCELLED, "the caller is gone")
BODY_LIMIT_S = 10.0
"""How long a body may take to come: a caller that sends a byte a minute holds one of the port's connections."""


class TooLarge(RequestError):
    """The body has more bytes than a request may have."""

    code = grpc.StatusCode.INVALID_ARGUMENT


class HttpPaths:
    """The handlers behind the paths."""

    def __init__(self, service: RouterService, settings: ServerSettings, tokens: TokensFile | None) -> None:
        """Take what decides, the limits, and who is let in; None lets everybody in."""
        self._service = service
        self._settings = settings
        self._tokens = tokens
        self._route = service.watched("http.route", self._behaviour(self._decide_route))
        self._systemone = service.watched("http.systemone", self._behaviour(self._decide_systemone))

    def app(self) -> Starlette:
        """Return the application."""
        route = self._guarded("Route", self._answer(self._route, lambda response, _: write_route(response)))
        systemone = self._guarded("Route", self._answer(self._systemone, self._write_systemone))
        report = self._guarded("DescribeModel", self._report)
        return Starlette(
            routes=[
                Route("/v1/route", route, methods=["POST"]),
                Route("/v1/systemone", systemone, methods=["POST"]),
                Route("/healthz", self._healthz),
                Route("/readyz", self._readyz),
                Route("/metrics", self._guarded(None, self._metrics)),
                Route("/report", _to_report),
                Route("/report/{path:path}", report),
            ]
        )

    def _behaviour(self, decide: Behaviour) -> Behaviour:
        async def behaviour(body: bytes, call: HttpCall) -> Any:
            return await self._service.or_status(decide(body, call), call)

        return behaviour

    async def _decide_route(self, body: bytes, call: HttpCall) -> Any:
        return await self._service.decide(read_route(body), call.deadline_s)

    async def _decide_systemone(self, body: bytes, call: HttpCall) -> Any:
        call.asked = read_systemone(body)
        return await self._service.decide(request_of(call.asked.state), call.deadline_s)

    def _write_systemone(self, response: Any, call: HttpCall) -> Any:
        pair = self._service.answering.lifecycle.lineup.default.manifest.pair
        return write_systemone(call.asked, response, (pair.weak, pair.strong))

    def _guarded(self, method: str | None, page: Page) -> Page:
        """Return a page behind the tokens, whose failures are statuses of the contract, without text of a request."""

        async def guarded(request: Request) -> Response:
            try:
                if self._tokens is not None:
                    admit(self._tokens, request.headers.getlist("authorization"), method)
                return await page(request)
            except CallFailed as failed:
                return error_response(failed.failure)
            except TooLarge as error:
                return error_response(failure_of(error), TOO_LARGE)
            except Exception as error:  # noqa: BLE001  # whatever it is, its text must not reach the caller
                return error_response(failure_of(error))

        return guarded

    def _answer(self, behaviour: Behaviour, write: Write) -> Page:
        async def answer(request: Request) -> Response:
            call = HttpCall(request.headers.items(), deadline_of(request.headers, time.monotonic()))
            body = await _body_of(request, self._settings.max_request_bytes)
            return json_response(write(await _while_there(request, behaviour(body, call), call), call))

        return answer

    async def _healthz(self, _: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _readyz(self, _: Request) -> Response:
        return PlainTextResponse("ready\n") if self._service.is_ready else PlainTextResponse("not ready\n", 503)

    async def _metrics(self, _: Request) -> Response:
        return await asyncio.to_thread(metrics_page, self._service.metrics)

    async def _report(self, request: Request) -> Response:
        bundle = self._service.answering.lifecycle.lineup.find(request.query_params.get("bundle", "")).bundle
        return await asyncio.to_thread(report_page, bundle, request.path_params["path"])


async def _to_report(request: Request) -> Response:
    return RedirectResponse(request.url.replace(path="/report/"), 308)


async def _body_of(request: Request, max_bytes: int) -> bytes:
    """Read the body.

    Raises:
        TooLarge: it is over the limit; as soon as that is known.
        DeadlineSpent: it did not come within `BODY_LIMIT_S`.
        CallFailed: the caller closed its connection.
    """
    too_large = TooLarge(f"the body has more than the {max_bytes} bytes that are allowed")
    if int(request.headers.get("content-length", 0)) > max_bytes:  # a number: uvicorn refuses anything else
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_LIMIT_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > max_bytes:
                    raise too_large
    except TimeoutError:
        raise DeadlineSpent(f"the body did not come within {BODY_LIMIT_S:.0f} s") from None
    except ClientDisconnect:
        raise CallFailed(GONE) from None
    return bytes(body)


async def _while_there(request: Request, answer: Awaitable[Any], call: HttpCall) -> Any:
    """Wait for the answer no longer than the caller does.

    Raises:
        DeadlineSpent: the deadline passed.
        CallFailed: the caller closed its connection, or what the handler ended with.
    """
    answering = asyncio.ensure_future(answer)
    leaving = asyncio.ensure_future(request.receive())  # after the body nothing comes but http.disconnect
    try:
        await asyncio.wait({answering, leaving}, timeout=call.time_remaining(), return_when=asyncio.FIRST_COMPLETED)
        if answering.done():
            return answering.result()
        answering.cancel()
        await asyncio.wait({answering})
        if leaving.done():
            raise CallFailed(GONE)
        raise DeadlineSpent("the deadline passed")
    finally:
        leaving.cancel()
        answering.cancel()
