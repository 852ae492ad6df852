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
        asked = body["messages"][-1]["content"] if "messages" in body else body.get("input", body.get("prompt"))
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
    """Yield the same answer as events of the Responses API."""
    whole = response_of(said, body)
    item = whole["output"][0]
    begun = whole | {"status": "in_progress", "output": [], "usage": None}
    at = {"output_index": 0, "item_id": item["id"]}
    part = {**at, "content_index": 0}
    empty = item["content"][0] | {"text": ""}
    events = [
        {"type": "response.created", "response": begun},
        {"type": "response.output_item.added", **at, "item": item | {"status": "in_progress", "content": []}},
        {"type": "response.content_part.added", **part, "part": empty},
        *(
            {"type": "response.output_text.delta", **part, "delta": f"{word} ", "logprobs": []}
            for word in (said.text or "").split(" ")
        ),
        {"type": "response.output_text.done", **part, "text": said.text or "", "logprobs": []},
        {"type": "response.content_part.done", **part, "part": item["content"][0]},
        {"type": "response.output_item.done", **at, "item": item},
        {"type": "response.completed", "response": whole},
    ]
    for number, event in enumerate(events):
        yield f"event: {event['type']}\ndata: {json.dumps(event | {'sequence_number': number})}\n\n".encode()


def text_of(said: Said, body: dict[str, Any]) -> dict[str, Any]:
    """Return the same answer in the shape of completions."""
    choice = {"index": 0, "text": said.text, "finish_reason": said.finish_reason, "logprobs": None}
    kept = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": body["model"]}
    return kept | {"choices": [choice], "usage": said.usage}


def text_stream_of(said: Said, body: dict[str, Any]) -> Iterator[bytes]:
    yield b"data: " + json.dumps(text_of(said, body)).encode() + b"\n\ndata: [DONE]\n\n"


def whole(path: str) -> Callable[[Said, dict[str, Any]], dict[str, Any]]:
    """Return what makes an answer in the shape of an endpoint."""
    chat = completion_of if path.endswith("/chat/completions") else text_of
    return response_of if path.endswith("/responses") else chat


def streaming(path: str) -> Callable[[Said, dict[str, Any]], Iterator[bytes]]:
    """Return what makes the events of an endpoint."""
    chat = stream_of if path.endswith("/chat/completions") else text_stream_of
    return response_stream_of if path.endswith("/responses") else chat


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
            elif body.get("stream"):
                self.reply(200, b"".join(streaming(self.path)(said, body)), "text/event-stream")
            else:
                self.reply(200, json.dumps(whole(self.path)(said, body)).encode())

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
