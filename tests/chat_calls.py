"""Chat completions asked for by the OpenAI SDK through a server in this loop, in front of a stub upstream."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import openai

from tests.http_calls import http_server
from tests.stub_upstream import Said, Script, StubUpstream, stub_upstream
from turnout.serving.bundles.bundle import Bundle

WEAK, STRONG = "gpt-4o-mini", "gpt-4o"
KEY = "sk-of-the-caller"
ALWAYS_STRONG = "word " * 400

Use = Callable[[openai.AsyncOpenAI, StubUpstream, str], Awaitable[Any]]


def script(weak: Said, strong: Said | None = None) -> Script:
    def said(model: str, _: str) -> Said:
        return weak if model == WEAK else strong or Said(text="Paris, I am certain.", completion_tokens=30)

    return said


def sdk(http: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"http://{http}/v1", api_key=KEY, max_retries=0, timeout=90)


def using(bundle: Bundle, answers: Script, use: Use, **settings: Any) -> Any:
    async def run() -> Any:
        with stub_upstream(answers) as stub:
            async with http_server(bundle, upstream=stub.url, **settings) as (_, _, http), sdk(http) as client:
                return await use(client, stub, http)

    return asyncio.run(run())


def asking(text: str = "hello", **more: Any) -> dict[str, Any]:
    return {"model": "auto", "messages": [{"role": "user", "content": text}], **more}


async def whole(client: openai.AsyncOpenAI, text: str = "hello", **more: Any) -> tuple[Any, dict[str, str]]:
    raw = await client.chat.completions.with_raw_response.create(**asking(text, **more))
    return raw.parse(), dict(raw.headers.items())


async def streamed(client: openai.AsyncOpenAI, text: str = "hello", **more: Any) -> tuple[str, Any, Any]:
    """Return the text of a stream, its last usage and its last finish reason."""
    said, usage, reason = "", None, None
    stream = await client.chat.completions.create(**asking(text, stream=True, **more))
    async for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            said += choice.delta.content or ""
            reason = choice.finish_reason or reason
    return said, usage, reason
