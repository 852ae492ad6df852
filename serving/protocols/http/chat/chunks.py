"""A whole completion as the chunks of a stream, and the usage of earlier calls put into a stream that passes through.

Comes in: a decoded completion, or the lines of an upstream's stream. Goes out: server-sent events as OpenAI sends them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from turnout.serving.gateways.completions import summed_usage

PIECE_CHARS = 256
"""Characters of one chunk: the answer is there already, and pieces let readers show it as they do any stream."""
DONE = b"data: [DONE]\n\n"
IN_PIECES = frozenset({"role", "content", "refusal", "tool_calls", "function_call"})
"""Fields of a message that chunks bring one after the other; all others come with the first one."""
MAX_LINE_BYTES = 8 << 20
"""A longer line of a stream passes through as it is."""


def chunks_of(completion: dict[str, Any], *, includes_usage: bool) -> Iterator[bytes]:
    """Return the events of a completion that is whole already.

    Args:
        completion: with its first choices, logprobs where the caller wants them.
        includes_usage: whether the caller asked for the usage, which comes as a chunk of its own.
    """
    base = {name: value for name, value in completion.items() if name not in ("choices", "usage", "object")}
    base["object"] = "chat.completion.chunk"
    for place, choice in enumerate(completion.get("choices") or []):
        index = choice.get("index", place)
        for delta, logprobs in _deltas(choice):
            yield _event(base, [_choice(index, delta, logprobs, None)], includes_usage=includes_usage)
        last = _choice(index, {}, None, choice.get("finish_reason"))
        yield _event(base, [last], includes_usage=includes_usage)
    if includes_usage:
        yield b"data: " + msgspec.json.encode({**base, "choices": [], "usage": completion.get("usage")}) + b"\n\n"
    yield DONE


def can_be_chunks(completion: dict[str, Any]) -> bool:
    """Whether chunks can be made of what an upstream wrote."""
    try:
        return bool(list(chunks_of(completion, includes_usage=False)))
    except Exception:  # noqa: BLE001  # whatever it wrote there
        return False


async def with_usage(
    lines: AsyncIterator[bytes],
    earlier: Any,
    on_usage: Callable[[Any], None],
    on_event: Callable[[dict[str, Any]], None] | None = None,
) -> AsyncIterator[bytes]:
    """Pass a stream's bytes through, the usage of earlier calls added where it says its own.

    Args:
        lines: the bytes, in pieces of any length.
        earlier: usage of the calls before; None for none, and then no byte is changed.
        on_usage: told of the stream's own usage.
        on_event: told of every event, decoded; None for nobody, and then only those with a usage are.
    """
    tell = _Telling(earlier, on_usage, on_event)
    held = b""
    async for piece in lines:
        held += piece
        *whole, held = held.split(b"\n")
        if len(held) > MAX_LINE_BYTES:
            whole, held = [*whole, held], b""
            yield b"\n".join(whole)
            continue
        if whole:
            yield b"".join(tell.added(line) + b"\n" for line in whole)
    if held:
        yield tell.added(held)


@dataclass(frozen=True, slots=True)
class _Telling:
    """Reads the lines of a stream for whoever wants to know of them."""

    earlier: Any
    on_usage: Callable[[Any], None]
    on_event: Callable[[dict[str, Any]], None] | None

    def added(self, line: bytes) -> bytes:
        """Return the line, the usage of earlier calls added where it says its own."""
        if not line.startswith(b"data:") or (self.on_event is None and b'"usage"' not in line):
            return line
        try:
            chunk = msgspec.json.decode(line[5:].strip(), type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return line
        if self.on_event is not None:
            self.on_event(chunk)
        said = (
            chunk if isinstance(chunk.get("usage"), dict) else chunk.get("response")
        )  # as events of responses have it
        if not isinstance(said, dict) or not isinstance(said.get("usage"), dict):
            return line
        self.on_usage(said["usage"])
        if self.earlier is None:
            return line
        said["usage"] = summed_usage(self.earlier, said["usage"])
        return b"data: " + msgspec.json.encode(chunk) + (b"\r" if line.endswith(b"\r") else b"")


def _deltas(choice: dict[str, Any]) -> Iterator[tuple[dict[str, Any], Any]]:
    """Return what each chunk of a choice adds; log-probabilities go with the text, which then is one piece."""
    message = choice.get("message") or {}
    logprobs = choice.get("logprobs")
    first = {"role": message.get("role") or "assistant", "content": "" if message.get("content") else None}
    more = {name: value for name, value in message.items() if name not in IN_PIECES and value is not None}
    yield first | more, None
    text = message.get("content") or ""
    size = len(text) if logprobs else PIECE_CHARS
    for start in range(0, len(text), size or 1):
        yield {"content": text[start : start + size]}, logprobs
    if message.get("refusal"):
        yield {"refusal": message["refusal"]}, None if text else logprobs
    for place, call in enumerate(message.get("tool_calls") or []):
        yield {"tool_calls": [{"index": place, **call}]}, None
    if message.get("function_call"):
        yield {"function_call": message["function_call"]}, None


def _choice(index: int, delta: dict[str, Any], logprobs: Any, finish_reason: Any) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}


def _event(base: dict[str, Any], choices: list[Any], *, includes_usage: bool) -> bytes:
    usage = {"usage": None} if includes_usage else {}
    return b"data: " + msgspec.json.encode({**base, "choices": choices, **usage}) + b"\n\n"
