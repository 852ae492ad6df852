"""A real HTTP endpoint of the OpenAI shape for tests: counts what it bills, and fails on command."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

API_KEY = "sk-secret-that-must-never-be-seen"
COMPLETION_TOKENS = 40
ANSWER = re.compile(r"<answer-([ab]) \w+>\n(.*?)\n</answer-", re.DOTALL)
QUALITY = re.compile(r"quality=(\d+)")


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request; `billed` says whether it is paid for all the same."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b'{"error": {"message": "the prompt was: PRIVATE PROMPT, your key is sk-secret", "code": "oops"}}'
    hang_s: float = 0.0
    billed: bool = False
    content: str | None = None


def verdict(letter: str, score_a: float, score_b: float) -> str:
    return json.dumps({"reason": "REASON-TEXT", "score_a": score_a, "score_b": score_b, "verdict": letter})


def fair_judge(body: dict[str, Any]) -> str:
    """Judge by the `quality=N` that answers state."""
    answers = dict(ANSWER.findall(body["messages"][-1]["content"]))
    a, b = (int(QUALITY.search(answers[name])[1]) for name in "ab")
    return verdict("tie" if a == b else "A" if a > b else "B", a, b)


def first_shown(_: dict[str, Any]) -> str:
    """Judge with nothing but bias by position."""
    return verdict("A", 8, 3)


@dataclass
class FakeEndpoint:
    """The endpoint's state; requests may come from many threads and processes."""

    answer: Callable[[dict[str, Any]], str] = fair_judge
    faults: Callable[[int, dict[str, Any]], Fault | None] = lambda _number, _body: None
    latency_s: float = 0.0
    is_idempotent: bool = False
    counts_usage: bool = True
    batches_are_done: bool = True
    url: str = ""
    arrivals: list[float] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    billed: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    at_once: int = 0
    most_at_once: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    _answered: dict[str, bytes] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def n_billed(self) -> int:
        return self.billed.total()

    @property
    def billed_twice(self) -> int:
        return sum(count - 1 for count in self.billed.values())

    def usd(self, price_input: float, price_output: float) -> float:
        return (self.prompt_tokens * price_input + self.completion_tokens * price_output) / 1e6

    def complete(self, raw: bytes, idempotency_key: str = "") -> tuple[Fault, bytes]:
        """Answer one chat completion; bills it unless it fails, or was billed under the same key."""
        body = json.loads(raw)
        with self._lock:
            number = len(self.bodies)
            self.bodies.append(body)
            self.arrivals.append(time.monotonic())
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            if self.is_idempotent and idempotency_key in self._answered:
                self.at_once -= 1
                return Fault(), self._answered[idempotency_key]
            fault = self.faults(number, body) or Fault()
            is_billed = fault.billed or fault.status == 200
            if is_billed:
                self._bill(body)
        time.sleep(self.latency_s + fault.hang_s)
        with self._lock:
            self.at_once -= 1
        if fault.status != 200:
            return fault, fault.body
        completion = self._completion(body, self.answer(body) if fault.content is None else fault.content)
        self._answered[idempotency_key] = completion
        return fault, completion

    def _bill(self, body: dict[str, Any]) -> None:
        self.billed[hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()] += 1
        self.prompt_tokens += self._prompt_tokens(body)
        self.completion_tokens += COMPLETION_TOKENS

    def _prompt_tokens(self, body: dict[str, Any]) -> int:
        return sum(len(message["content"]) for message in body["messages"]) // 4

    def _completion(self, body: dict[str, Any], content: str) -> bytes:
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
        completion = {"id": "c", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice]}
        if self.counts_usage:
            prompt = self._prompt_tokens(body)
            usage = {"prompt_tokens": prompt, "completion_tokens": COMPLETION_TOKENS}
            completion["usage"] = usage | {"total_tokens": prompt + COMPLETION_TOKENS}
        return json.dumps(completion).encode()

    # The Batch API: a batch is answered when it is looked at and `batches_are_done`.

    def upload(self, content_type: str, raw: bytes) -> dict[str, Any]:
        message = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode() + raw)
        (content,) = [part.get_payload(decode=True) for part in message.iter_parts() if part.get_filename()]
        name = f"file-{len(self.files)}"
        self.files[name] = content
        return {
            "id": name,
            "object": "file",
            "bytes": len(content),
            "created_at": 1,
            "filename": "f",
            "purpose": "batch",
        }

    def create_batch(self, body: dict[str, Any]) -> dict[str, Any]:
        name = f"batch_{len(self.batches)}"
        shape = {"id": name, "object": "batch", "created_at": 1, "status": "in_progress"}
        self.batches[name] = shape | body
        return self.batches[name]

    def batch(self, name: str) -> dict[str, Any]:
        batch = self.batches[name]
        if self.batches_are_done and batch["status"] == "in_progress":
            lines = [json.loads(line) for line in self.files[batch["input_file_id"]].splitlines()]
            self.files[f"out-{name}"] = b"\n".join(self._batch_line(line) for line in lines)
            batch |= {"status": "completed", "output_file_id": f"out-{name}"}
        return batch

    def _batch_line(self, line: dict[str, Any]) -> bytes:
        fault, completion = self.complete(json.dumps(line["body"]).encode())
        response = {"status_code": fault.status, "request_id": "r", "body": json.loads(completion)}
        return json.dumps({"id": "l", "custom_id": line["custom_id"], "response": response, "error": None}).encode()


def handler_of(endpoint: FakeEndpoint) -> type[BaseHTTPRequestHandler]:  # noqa: C901  # one class, five routes
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            endpoint.keys.add(self.headers.get("Authorization", ""))
            if self.path == "/v1/files":
                self.reply(endpoint.upload(self.headers["Content-Type"], raw))
            elif self.path == "/v1/batches":
                self.reply(endpoint.create_batch(json.loads(raw)))
            else:
                fault, body = endpoint.complete(raw, self.headers.get("Idempotency-Key", ""))
                self.send(fault.status, body, fault.headers)

        def do_GET(self) -> None:
            path = self.path.partition("?")[0].removeprefix("/v1/")
            if path == "batches":
                self.reply({"object": "list", "data": list(endpoint.batches.values())[::-1], "has_more": False})
            elif path.startswith("batches/"):
                self.reply(endpoint.batch(path.removeprefix("batches/")))
            else:
                self.send(200, endpoint.files[path.split("/")[1]], {"Content-Type": "application/octet-stream"})

        def do_DELETE(self) -> None:
            name = self.path.rsplit("/", 1)[-1]
            endpoint.deleted.append(name)
            self.reply({"id": name, "object": "file", "deleted": True})

        def reply(self, value: dict[str, Any]) -> None:
            self.send(200, json.dumps(value).encode(), {})

        def send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            try:
                self.send_response(status)
                for name, value in ({"Content-Type": "application/json"} | headers).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except (BrokenPipeError, ConnectionResetError):  # the client timed out, or was killed
                self.close_connection = True

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that were killed."""


@contextmanager
def fake_endpoint(**settings: Any) -> Iterator[FakeEndpoint]:
    """Serve on a free port of the loopback until the end of the block."""
    endpoint = FakeEndpoint(**settings)
    server = _Server(("127.0.0.1", 0), handler_of(endpoint))
    endpoint.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
