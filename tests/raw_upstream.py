"""An upstream of raw bytes, in the test's own event loop: replies that no proper server would write."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.http_calls import http_server
from tests.stub_upstream import Said, completion_of
from turnout.serving.bundles.bundle import Bundle

Writes = AsyncIterator[bytes]
"""The pieces of a reply, head and all; its end closes the connection."""
Answers = Callable[[Any], bytes | Writes]


def reply(
    status: int,
    body: Any,
    kind: str = "application/json",
    length: int | None = None,
    more: Mapping[str, str] | None = None,
) -> bytes:
    """Return a whole reply; `length` where its head is to lie about that of the body."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    told = {"content-type": kind, "content-length": str(len(raw) if length is None else length)} | dict(more or {})
    head = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    return f"HTTP/1.1 {status} Made Up\r\nconnection: close\r\n{head}\r\n".encode() + raw


def answer(body: Any, said: Said | None = None, **more: Any) -> bytes:
    """Return a chat completion as a whole reply."""
    return reply(200, completion_of(said or Said(text="Paris, I am certain."), body) | more)


def events(*pieces: Any, kind: str = "text/event-stream", length: int | None = None) -> bytes:
    """Return a stream as a whole reply: an event for each piece, and the last one."""
    raw = b"".join(b"data: " + json.dumps(piece).encode() + b"\n\n" for piece in pieces) + b"data: [DONE]\n\n"
    return reply(200, raw, kind, length)


def delta(text: str) -> dict[str, Any]:
    """Return a chunk with some text."""
    return {"id": "c", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}


@dataclass
class RawUpstream:
    """What was asked of it, in order: the heads as they came, and the decoded bodies."""

    answers: Answers
    url: str = ""
    heads: list[bytes] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)

    @property
    def models(self) -> list[str]:
        """The models that were called, in order."""
        return [body["model"] for body in self.bodies]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection's one request."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                named = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
                body = json.loads(await reader.readexactly(int(named[0].split(b":")[1])))
                self.heads.append(head)
                self.bodies.append(body)
                said = self.answers(body)
                if isinstance(said, bytes):
                    writer.write(said)
                else:
                    async for piece in said:
                        writer.write(piece)
                        await writer.drain()
                await writer.drain()
            finally:
                writer.close()


@contextlib.asynccontextmanager
async def raw_upstream(bundle: Bundle, answers: Answers, **settings: Any) -> AsyncIterator[tuple[RawUpstream, str]]:
    """Serve it and a router in front of it; gives its state and the router's HTTP address."""
    upstream = RawUpstream(answers)
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        async with http_server(bundle, upstream=upstream.url, **settings) as (_, _, http):
            yield upstream, http
    finally:
        server.close()
