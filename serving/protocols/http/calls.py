"""A call over HTTP as the handlers of the service see it, and their statuses as HTTP responses.

Headers in, an `HttpCall` for a handler out; the handler's abort in, a JSON error out. The codes and the
shape of errors are those of the Connect protocol, which writes unary RPCs as JSON over HTTP.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import grpc
import msgspec
from starlette.responses import Response

from turnout.serving.errors import InvalidRequest
from turnout.serving.service.status import PUSHBACK_KEY, Failure

TIMEOUT_HEADER = "connect-timeout-ms"
"""Names the caller's deadline in milliseconds, as in the Connect protocol; without it there is none."""
OWN_TOKEN = "x-turnout-authorization"  # noqa: S105  # the name of a header
"""Shows this server's own token where `Authorization` is the upstream's key."""
MAX_TIMEOUT_MS = 9_999_999_999

STATUSES = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}
TOO_LARGE = 413
GONE = Failure(grpc.StatusCode.CANCELLED, "the caller is gone")


class CallFailed(Exception):
    """A handler ended its call with a status other than OK."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class HttpCall:
    """The part of gRPC's context that handlers use; one an HTTP request.

    Attributes:
        deadline_s: when the caller stops waiting, on the monotonic clock; None for never.
        asked: the request, where the form of the answer depends on it.
    """

    def __init__(self, headers: Sequence[tuple[str, str]], deadline_s: float | None) -> None:
        """Take the headers, names in lower case, and the deadline."""
        self.deadline_s = deadline_s
        self.asked: Any = None
        self._headers = headers
        self._code = grpc.StatusCode.OK

    def time_remaining(self) -> float | None:
        """Return the seconds until the deadline; None without one."""
        return None if self.deadline_s is None else self.deadline_s - time.monotonic()

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        """Return the headers: what gRPC calls metadata."""
        return self._headers

    def code(self) -> grpc.StatusCode:
        """Return the status that the handler ended with."""
        return self._code

    async def abort(self, code: grpc.StatusCode, message: str, trailers: Sequence[tuple[str, str]] = ()) -> NoReturn:
        """End the call; raises `CallFailed`."""
        self._code = code
        pushback_ms = int(dict(trailers).get(PUSHBACK_KEY, 0))
        raise CallFailed(Failure(code, message, pushback_ms if pushback_ms > 0 else None))


def deadline_of(headers: Mapping[str, str], now_s: float) -> float | None:
    """Return when the caller stops waiting, on the clock of `now_s`; None without the header.

    Raises:
        InvalidRequest: the header is not a positive number of milliseconds.
    """
    wanted = headers.get(TIMEOUT_HEADER)
    if wanted is None:
        return None
    if not (wanted.isascii() and wanted.isdigit() and 0 < int(wanted[:11]) <= MAX_TIMEOUT_MS):
        raise InvalidRequest(f"{TIMEOUT_HEADER}: expected milliseconds, 1 to {MAX_TIMEOUT_MS}")
    return now_s + int(wanted) / 1e3


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a value as a JSON response."""
    return Response(msgspec.json.encode(value), status, headers, "application/json")


def _refused(status_line: bytes, code: str, message: str) -> bytes:
    """Return a whole response as bytes, for what no request came out of; ends the connection."""
    body = msgspec.json.encode({"code": code, "message": message})
    head = b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
    return head % (status_line, len(body)) + body


REFUSED_400 = _refused(b"400 Bad Request", "invalid_argument", "this is no HTTP/1.1 request")
REFUSED_408 = _refused(b"408 Request Timeout", "deadline_exceeded", "the request did not come in time")


def error_response(failure: Failure, status: int | None = None, more: Mapping[str, str] | None = None) -> Response:
    """Return a status of the contract as HTTP; `status` where the protocol has a better one than the code's."""
    body: dict[str, Any] = {"code": failure.code.name.lower(), "message": failure.message}
    headers = dict(more or {})
    if failure.pushback_ms is not None:
        body["retry_pushback_ms"] = failure.pushback_ms
        headers["retry-after"] = str(math.ceil(failure.pushback_ms / 1e3))  # whole seconds, by RFC 9110
    if failure.code is grpc.StatusCode.UNAUTHENTICATED:
        headers["www-authenticate"] = "Bearer"
    return json_response(body, status or STATUSES.get(failure.code, 500), headers)
