"""Real HTTP calls to the HTTP port of a server that runs in the test's event loop or in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from tests.running import ANY_PORT, server_in_loop
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.server.running import RouterServer
from turnout.serving.service.lifecycle import Lifecycle

LOGGED = re.compile(r"http on (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes
    headers: dict[str, str]

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


@dataclass(frozen=True)
class HttpProcess:
    """A server in its own process, with the addresses of both ports."""

    grpc: str
    http: str
    log: Path

    def call(self, path: str, body: Any = None, **options: Any) -> Reply:
        return asyncio.run(call(self.http, path, body, **options))


@contextlib.asynccontextmanager
async def http_server(served: Bundle | Lifecycle, **settings: Any) -> AsyncIterator[tuple[RouterServer, str, str]]:
    """Serve both ports; gives the server, the address for gRPC and the one for HTTP."""
    async with server_in_loop(served, http=ANY_PORT, **settings) as (server, address):
        yield server, address, server.http.address


async def call(address: str, path: str, body: Any = None, *, scheme: str = "http", **options: Any) -> Reply:
    """POST a body, as JSON unless it is bytes, or GET without one; over a connection of its own."""
    if body is not None:
        options["data"] = body if isinstance(body, bytes) or hasattr(body, "__aiter__") else msgspec.json.encode(body)
    async with (
        aiohttp.ClientSession() as session,
        session.request("GET" if body is None else "POST", f"{scheme}://{address}{path}", **options) as reply,
    ):
        return Reply(reply.status, await reply.read(), {name.lower(): value for name, value in reply.headers.items()})


def http_address_in(log: Path) -> str:
    """Return the address of the HTTP port that a server process logged."""
    found = LOGGED.search(log.read_text())
    assert found, log.read_text()
    return found[1]


def systemone(state: str, labels: tuple[str, ...] = ("weak", "strong"), **questions: Any) -> dict[str, Any]:
    """Return the body that LiteLLM sends."""
    criteria = {label: f"what is {label}" for label in labels}
    tier = {"type": "choice", "instructions": "Which model?", "criteria": criteria}
    return {"state": state, "model": "nimble-latest", "questions": {"tier": tier} | questions}
