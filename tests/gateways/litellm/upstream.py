"""Stands for the models' vendor in a process of its own: the OpenAI API, streams included, and a place for logs.

Run as `python -m tests.gateways.litellm.upstream PORT FOLDER`. FOLDER/requests.jsonl gets a line for each chat
completion, with the usage that was billed; FOLDER/logs.jsonl what LiteLLM's logger of type `generic_api` sends.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

WORDS = ["The", "answer", "depends", "on", "what", "is", "asked", "."]
BYTES_PER_TOKEN = 4


class Upstream:
    """The handlers, and the folder that they write to."""

    def __init__(self, folder: Path) -> None:
        self._requests = (folder / "requests.jsonl").open("ab", buffering=0)
        self._logs = (folder / "logs.jsonl").open("ab", buffering=0)

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 << 20)
        app.add_routes([web.post("/v1/chat/completions", self.chat), web.post("/logs", self.logs)])
        return app

    async def logs(self, request: web.Request) -> web.Response:
        for payload in msgspec.json.decode(await request.read()):
            self._logs.write(msgspec.json.encode(payload) + b"\n")
        return web.json_response({})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        asked = msgspec.json.decode(await request.read())
        usage = usage_of(asked)
        self._requests.write(msgspec.json.encode(summary(asked, usage)) + b"\n")
        if asked.get("stream"):
            return await self._stream(request, asked, usage)
        message = {"role": "assistant", "content": " ".join(WORDS)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return web.json_response(envelope(asked, "chat.completion", [choice]) | {"usage": usage})

    async def _stream(self, request: web.Request, asked: dict[str, Any], usage: dict[str, Any]) -> web.StreamResponse:
        reply = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await reply.prepare(request)
        for word in WORDS:
            choice = {"index": 0, "delta": {"role": "assistant", "content": word + " "}, "finish_reason": None}
            await reply.write(event(envelope(asked, "chat.completion.chunk", [choice])))
        last = {"index": 0, "delta": {}, "finish_reason": "stop"}
        await reply.write(event(envelope(asked, "chat.completion.chunk", [last])))
        if (asked.get("stream_options") or {}).get("include_usage"):
            await reply.write(event(envelope(asked, "chat.completion.chunk", []) | {"usage": usage}))
        await reply.write(b"data: [DONE]\n\n")
        return reply


def usage_of(asked: dict[str, Any]) -> dict[str, Any]:
    """Return the usage that is billed: of the bytes sent, a quarter."""
    prompt = len(msgspec.json.encode(asked["messages"])) // BYTES_PER_TOKEN + 1
    return {"prompt_tokens": prompt, "completion_tokens": len(WORDS), "total_tokens": prompt + len(WORDS)}


def summary(asked: dict[str, Any], usage: dict[str, Any]) -> dict[str, Any]:
    return {"model": asked["model"], "user": asked.get("user"), "stream": bool(asked.get("stream")), "usage": usage}


def envelope(asked: dict[str, Any], kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": "chatcmpl-0", "object": kind, "created": 1, "model": asked["model"], "choices": choices}


def event(value: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


if __name__ == "__main__":
    web.run_app(Upstream(Path(sys.argv[2])).app(), host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
