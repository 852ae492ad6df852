"""A stub upstream in a process of its own: chat completions and embeddings in OpenAI's form, at once.

Its CPU is not counted to the peer that calls it; it adds to that peer's latency what local calls take, where a real
embedding API adds tens of milliseconds. Run as `python -m tests.bench.serving.upstream PORT`.
"""

from __future__ import annotations

import base64
import sys

import msgspec
import numpy as np
from aiohttp import web

from tests.bench.serving.vectors import vector_of

_USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


async def chat(request: web.Request) -> web.Response:
    """Answer "ok" in the name of the model that was asked."""
    asked = msgspec.json.decode(await request.read())
    message = {"role": "assistant", "content": "ok"}
    return _reply(
        {
            "id": "chatcmpl-0",
            "object": "chat.completion",
            "created": 0,
            "model": asked["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": _USAGE,
        }
    )


async def embeddings(request: web.Request) -> web.Response:
    """Answer with `vector_of` each input, in the encoding that was asked for."""
    asked = msgspec.json.decode(await request.read())
    inputs = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
    vectors = [vector_of(text) for text in inputs]
    if asked.get("encoding_format") == "base64":
        shown = [base64.b64encode(vector.astype(np.float32).tobytes()).decode() for vector in vectors]
    else:
        shown = [vector.tolist() for vector in vectors]
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(shown)]
    return _reply({"object": "list", "model": asked["model"], "data": data, "usage": _USAGE})


def _reply(body: dict) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), content_type="application/json")


if __name__ == "__main__":
    app = web.Application(client_max_size=16 << 20)
    app.add_routes([web.post("/v1/chat/completions", chat), web.post("/v1/embeddings", embeddings)])
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
