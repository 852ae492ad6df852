"""A real OpenAI-compatible server for tests that replays made-up answers with their log-probabilities.

What it answers is told by a function of model and last user message; what it bills is counted for each model.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PROMPT_TOKENS = 100
SURE, UNSURE = -0.001, -2.0


@dataclass(frozen=True)
class Said:
    """One answer: text, each token's log-probability, or what goes wrong instead."""

    text: str | None = "Paris."
    logprob: float | None = SURE
    tool_calls: list[dict[str, Any]] | None = None
    finish_reason: str = "stop"
    status: int = 200
    hang_s: float = 0.0
    refuses_logprobs: bool = False
    raw: bytes | None = None
    completion_tokens: int = 10

    @property
    def usage(self) -> dict[str, Any]:
        return {
            "prompt_tokens": PROMPT_TOKENS,
            "completion_tokens": self.completion_tokens,
            "total_tokens": PROMPT_TOKENS + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": 4},
        }


Script = Callable[[str, str], Said]


@dataclass
class StubUpstream:
    """The server's state; requests come on threads."""

    script: Script
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    billed: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def models(self) -> list[str]:
        """The models that were called, in order."""
        return [body["model"] for body in self.bodies]

    def said(self, body: dict[str, Any], headers: dict[str, str]) -> Said:
        asked = body["messages"][-1]["content"] if "messages" in body else body["input"]
        said = self.script(body["model"], str(asked))
        with self._lock:
            self.bodies.append(body)
            self.headers.append(headers)
        if said.refuses_logprobs and (body.get("logprobs") or body.get("include")):
            said = Said(status=400)
        time.sleep(said.hang_s)
        if said.status == 200:
            with self._lock:
                self.billed[body["model"]] += said.completion_tokens
        return said


def completion_of(said: Said, body: dict[str, Any]) -> dict[str, Any]:
    tokens = (said.text or "").split(" ")
    logprobs = None
    if body.get("logprobs") and said.logprob is not None:
        other = {"token": "?", "logprob": -9.0, "bytes": None}
        content = [
            {"token": one, "logprob": said.logprob, "bytes": None}
            | {"top_logprobs": [{"token": one, "logprob": said.logprob, "bytes": None}, other]}
            for one in tokens
        ]
        logprobs = {"content": content, "refusal": None}
    message = {"role": "assistant", "content": said.text, "refusal": None}
    if said.tool_calls:
        message["tool_calls"] = said.tool_calls
    choice = {"index": 0, "message": message, "finish_reason": said.finish_reason, "logprobs": logprobs}
    kept = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": body["model"]}
    return kept | {"choices": [choice], "usage": said.usage}


def response_of(said: Said, body: dict[str, Any]) -> dict[str, Any]:
    """Return the same answer in the shape of the Responses API."""
    choice = completion_of(said, body | {"logprobs": body.get("include")})["choices"][0]
    logprobs = (choice["logprobs"] or {}).get("content", [])
    part = {"type": "output_text", "text": said.text or "", "annotations": [], "logprobs": logprobs}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    kept = {"id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": body["model"]}
    usage = {
        "input_tokens": PROMPT_TOKENS,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens": said.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": PROMPT_TOKENS + said.completion_tokens,
    }
    more = {"output": [item], "usage": usage, "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    return kept | more


def stream_of(said: Said, body: dict[str, Any]) -> Iterator[bytes]:
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}

    def event(choices: list[Any], **more: Any) -> bytes:
        return b"data: " + json.dumps(base | {"choices": choices} | more).encode() + b"\n\n"

    for word in (said.text or "").split(" "):
        yield event([{"index": 0, "delta": {"content": f"{word} "}, "finish_reason": None}])
    yield event([{"index": 0, "delta": {}, "finish_reason": said.finish_reason}])
    if (body.get("stream_options") or {}).get("include_usage"):
        yield event([], usage=said.usage)
    yield b"data: [DONE]\n\n"


def response_stream_of(said: Said, body: dict[str, Any]) -> Iterator[bytes]:
    whole = response_of(said, body)
    events = [{"type": "response.output_text.delta", "delta": f"{word} "} for word in (said.text or "").split(" ")]
    for event in [*events, {"type": "response.completed", "response": whole}]:
        yield f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


def answered(path: str, said: Said, body: dict[str, Any]) -> tuple[bytes, str]:
    """Return an answer in the shape that the path and the body ask for, and its kind."""
    is_response = path.endswith("/responses")
    if body.get("stream"):
        events = response_stream_of(said, body) if is_response else stream_of(said, body)
        return b"".join(events), "text/event-stream"
    return json.dumps((response_of if is_response else completion_of)(said, body)).encode(), "application/json"


def _handler(stub: StubUpstream) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.reply(200, json.dumps({"object": "list", "data": [{"id": "gpt-4o", "object": "model"}]}).encode())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            said = stub.said(body, {name.lower(): value for name, value in self.headers.items()})
            if said.raw is not None:
                self.reply(said.status, said.raw)
            elif said.status != 200:
                self.reply(said.status, json.dumps({"error": {"message": "made up", "code": said.status}}).encode())
            else:
                self.reply(200, *answered(self.path, said, body))

        def reply(self, status: int, raw: bytes, kind: str = "application/json") -> None:
            try:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)
            except (BrokenPipeError, ConnectionResetError):  # its caller stopped waiting
                self.close_connection = True

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of callers that stopped waiting."""


@contextmanager
def stub_upstream(script: Script) -> Iterator[StubUpstream]:
    """Serve on a free port of the loopback until the end of the block."""
    stub = StubUpstream(script)
    server = _Server(("127.0.0.1", 0), _handler(stub))
    stub.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
