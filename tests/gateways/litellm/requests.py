"""Requests shaped as a gateway sees them, of the project's own text: plain, multi-turn, tools, images, streams."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from turnout.training.sample.sample import make_sample

WAYS = ("auto", "routed-by-plugin", "routed")
"""Names that requests ask for: an alias of the callback, the auto router with the plug-in, and without any."""
PICTURE = "data:image/png;base64," + base64.b64encode(b"any bytes will do: nobody looks").decode()
STREAM = {"stream": True, "stream_options": {"include_usage": True}}
SYSTEM = "You are a careful assistant. Answer in one sentence."


@dataclass(frozen=True)
class Request:
    """One request; `user` marks it on its way to the upstream."""

    user: str
    way: str
    body: dict[str, Any]

    @property
    def shown(self) -> dict[str, Any]:
        """What of the body the router gets to see: by configuration alone, system prompt and last question."""
        if self.way != "routed":
            return self.body
        messages = self.body["messages"]
        system = [message for message in messages if message["role"] == "system"]
        return {"messages": [*system, {"role": "user", "content": text_of(messages[-1])}]}


def text_of(message: dict[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "\n".join(part["text"] for part in content if "text" in part)


def requests(n_requests: int, seed: int) -> list[Request]:
    """Return as many requests, the ways in turns; tools, JSON and many turns are those of the sample."""
    rows = make_sample(n_requests, seed)
    return [
        Request(f"r{number}", WAYS[number % len(WAYS)], _varied(row["request"], number))
        for number, row in enumerate(rows)
    ]


def unstreamed(request: Request, user: str) -> Request:
    """Return the request under another mark, answered in one piece: its time is then that of a whole call."""
    return Request(user, request.way, {name: value for name, value in request.body.items() if name not in STREAM})


def _varied(request: dict[str, Any], number: int) -> dict[str, Any]:
    body = {name: value for name, value in request.items() if name != "model"}
    messages = [dict(message) for message in body["messages"]]
    if number % 7 == 0:
        picture = {"type": "image_url", "image_url": {"url": PICTURE}}
        messages[-1]["content"] = [{"type": "text", "text": messages[-1]["content"]}, picture]
    if number % 5 == 0 and messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": SYSTEM})
    return body | {"messages": messages} | (STREAM if number % 4 == 0 else {})
