"""A request's body, within its limits, and an answer no later than its caller goes away."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import grpc
from starlette.requests import ClientDisconnect, Request

from turnout.serving.errors import DeadlineSpent, RequestError
from turnout.serving.protocols.http.calls import CallFailed, HttpCall
from turnout.serving.service.status import Failure

GONE = Failure(grpc.StatusCode.CANCELLED, "the caller is gone")
BODY_LIMIT_S = 10.0
"""How long a body may take to come: a caller that sends a byte a minute holds one of the port's connections."""


class TooLarge(RequestError):
    """The body has more bytes than a request may have."""

    code = grpc.StatusCode.INVALID_ARGUMENT


async def body_of(request: Request, max_bytes: int) -> bytes:
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


async def while_there(request: Request, answer: Awaitable[Any], call: HttpCall) -> Any:
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
