"""Bodies of requests over HTTP: read within limits of size, time and memory, and answered while the caller is there.

A request's stream in, its bytes out. Bodies that are on their way share `MAX_COMING_BYTES`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Iterator
from typing import Any

from starlette.requests import ClientDisconnect, Request

from turnout.serving.errors import DeadlineSpent, InvalidRequest, NotServing, RequestError
from turnout.serving.protocols.http.calls import GONE, CallFailed, HttpCall

BODY_LIMIT_S = 10.0
"""How long a body may take to come: a caller that sends a byte a minute holds memory and a connection."""
MAX_COMING_BYTES = 256 << 20
"""Of bodies that have not come to their end, per worker: 64 of the largest. More are refused, not kept."""
LOG_EVERY_S = 60.0
GZIP_MAGIC = b"\x1f\x8b"

_log = logging.getLogger("turnout.http")


class TooLarge(RequestError):
    """The body has more bytes than a request may have."""

    code = "INVALID_ARGUMENT"


class Room:
    """How many requests may be answered at once; more are refused, and the log says so once a minute."""

    def __init__(self, limit: int) -> None:
        """Take the limit."""
        self._limit = limit
        self._taken = 0
        self._refused = 0
        self._logged_s = -LOG_EVERY_S

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Take a place for the body of the `with`; raises `NotServing` where there is none."""
        if self._taken >= self._limit:
            self._refuse()
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    def _refuse(self) -> None:
        self._refused += 1
        now_s = time.monotonic()
        if now_s - self._logged_s >= LOG_EVERY_S:
            _log.warning("%d requests are being answered, the limit; refused so far: %d", self._taken, self._refused)
            self._logged_s = now_s
        raise NotServing(f"{self._limit} requests are being answered, which is the limit; use another replica")


class Bodies:
    """Reads bodies."""

    def __init__(self, max_bytes: int) -> None:
        """Take what one body may have."""
        self._max_bytes = max_bytes
        self._coming = 0

    async def read(self, request: Request) -> bytes:
        """Read the body of a request.

        Raises:
            TooLarge: it is over the limit; as soon as that is known.
            InvalidRequest: it is compressed.
            DeadlineSpent: it did not come within `BODY_LIMIT_S`.
            NotServing: too many bytes of other bodies are on their way.
            CallFailed: the caller closed its connection.
        """
        if int(request.headers.get("content-length", 0)) > self._max_bytes:  # a number: uvicorn refuses anything else
            raise self._too_large()
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise InvalidRequest("content-encoding: compressed bodies are not read; send the JSON as it is")
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_LIMIT_S):
                async for chunk in request.stream():
                    self._take(body, chunk)
        except TimeoutError:
            raise DeadlineSpent(f"the body did not come within {BODY_LIMIT_S:.0f} s") from None
        except ClientDisconnect:
            raise CallFailed(GONE) from None
        finally:
            self._coming -= len(body)
        if body.startswith(GZIP_MAGIC):
            raise InvalidRequest("the body is compressed; send the JSON as it is")
        return bytes(body)

    def _take(self, body: bytearray, chunk: bytes) -> None:
        body += chunk
        self._coming += len(chunk)
        if len(body) > self._max_bytes:
            raise self._too_large()
        if self._coming > MAX_COMING_BYTES:
            raise NotServing("too many bodies are on their way; use another replica")

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the body has more than the {self._max_bytes} bytes that are allowed")


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
