"""The upstream: an OpenAI-compatible server that holds both models of the pair.

Comes in: a path, a body, headers to pass on, and how long there is. Goes out: a whole reply, or one whose body comes
as a stream. Keys are the caller's own and pass through; nothing of bodies or keys is logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
import msgspec

PASSED_ON = frozenset({"authorization", "api-key", "x-api-key", "traceparent", "tracestate", "user-agent"})
"""Headers that the upstream sees, and those that begin with `openai-`; all others end here."""
PASSED_BACK = frozenset({"content-type", "retry-after", "retry-after-ms", "x-request-id", "x-should-retry"})
"""Headers of the upstream that the caller sees, and those that begin with `x-ratelimit-` or `openai-`."""
MAX_REPLY_BYTES = 32 << 20
"""A whole reply that is longer counts as failed: 100 times the longest answer with its log-probabilities."""
CONNECT_S = 10.0


class UpstreamFailed(Exception):
    """No usable reply: `why` is `timeout`, `unreachable`, `too_large` or `not_json`."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True, slots=True)
class UpstreamReply:
    """A whole reply.

    Attributes:
        status: of HTTP.
        headers: those that the caller may see.
        body: as it came.
        latency_ms: from the sending to the last byte.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    latency_ms: float

    @property
    def is_ok(self) -> bool:
        """Whether it is an answer."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """Return the decoded body; raises `UpstreamFailed` where it is no JSON object."""
        try:
            return msgspec.json.decode(self.body, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise UpstreamFailed("not_json") from None


class Upstream:
    """Calls the upstream over connections that are kept. Belongs to one event loop."""

    def __init__(self, url: str) -> None:
        """Take the base URL, such as `https://api.openai.com/v1`; connects at the first call."""
        self._url = url.rstrip("/")
        self._client = httpx2.AsyncClient(
            trust_env=False,  # prompts go to the upstream and through no proxy that an environment names
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64),
        )

    async def call(
        self, method: str, path: str, body: Any, headers: Mapping[str, str], deadline_s: float
    ) -> UpstreamReply:
        """Return a whole reply, of whatever status; raises `UpstreamFailed` where there is none by the deadline."""
        started = time.monotonic()
        async with self.stream(method, path, body, headers, deadline_s) as response:
            return await whole_of(response, started, deadline_s)

    @contextlib.asynccontextmanager
    async def stream(
        self, method: str, path: str, body: Any, headers: Mapping[str, str], deadline_s: float
    ) -> AsyncIterator[httpx2.Response]:
        """Give a reply whose body is yet to come; raises `UpstreamFailed` where its head is not there in time."""
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise UpstreamFailed("timeout")
        timeout = httpx2.Timeout(left_s, connect=min(CONNECT_S, left_s))
        content = None if body is None else msgspec.json.encode(body)
        passed = [*passed_on(headers), *([] if content is None else [(b"content-type", b"application/json")])]
        request = self._client.build_request(method, self._url + path, content=content, headers=passed, timeout=timeout)
        with _failures():
            async with asyncio.timeout_at(_on_loop(deadline_s)):
                response = await self._client.send(request, stream=True)
        try:
            yield response
        finally:
            await response.aclose()

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()


async def whole_of(response: httpx2.Response, started_s: float, deadline_s: float) -> UpstreamReply:
    """Return a reply whose body is yet to come with all of it, `started_s` being when it was asked for.

    Raises:
        UpstreamFailed: the body is not there by the deadline, or too large.
    """
    raw = bytearray()
    with _failures():
        async with asyncio.timeout_at(_on_loop(deadline_s)):
            async for piece in response.aiter_bytes():
                raw += piece
                if len(raw) > MAX_REPLY_BYTES:
                    raise UpstreamFailed("too_large")
    latency_ms = (time.monotonic() - started_s) * 1e3
    return UpstreamReply(response.status_code, shown_headers(response.headers), bytes(raw), latency_ms)


def passed_on(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Return the headers of a caller that the upstream sees, as the bytes that came; names in lower case."""
    return [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in headers.items()
        if name.lower() in PASSED_ON or name.lower().startswith("openai-")
    ]


def shown_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of the upstream that the caller sees, without those that HTTP's Latin-1 can't hold."""
    return {
        name.lower(): value
        for name, value in headers.items()
        if (name.lower() in PASSED_BACK or name.lower().startswith(("x-ratelimit-", "openai-")))
        and all(ord(character) < 256 for character in name + value)
    }


@contextlib.contextmanager
def _failures() -> Any:
    """Make `UpstreamFailed` of whatever the transport raises; its texts may quote URLs with secrets."""
    try:
        yield
    except (TimeoutError, httpx2.TimeoutException):
        raise UpstreamFailed("timeout") from None
    except (httpx2.HTTPError, httpx2.StreamError, httpx2.InvalidURL, OSError):
        raise UpstreamFailed("unreachable") from None


def _on_loop(deadline_s: float) -> float:
    """Return a moment of the monotonic clock on the clock of the event loop."""
    return asyncio.get_running_loop().time() + deadline_s - time.monotonic()
