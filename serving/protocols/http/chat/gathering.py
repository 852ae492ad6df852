"""A stream that passed through, put together: the whole completion that its events amount to.

Events in, decoded; a completion out, as far as the second look and the log read one. Events come from another machine
and may hold anything: what is not of the expected form counts as absent.
"""

from __future__ import annotations

from typing import Any, Protocol

from turnout.serving.gateways.completions import first_choice
from turnout.serving.service.keeping import MAX_TEXT_BYTES


class Gathering(Protocol):
    """Takes the events of one stream."""

    def take(self, event: dict[str, Any]) -> None:
        """Take the next event."""

    @property
    def whole(self) -> Any:
        """The completion; nothing that is an answer where the stream broke off, or where it is too long to be kept."""


class ChatGathering:
    """Puts chunks of a chat completion together: the first choice."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._text: list[str] = []
        self._refusal: list[str] = []
        self._logprobs: list[Any] = []
        self._calls: list[Any] = []
        self._reason: str | None = None
        self._n_chars = 0

    def take(self, event: dict[str, Any]) -> None:
        """Take the next chunk."""
        choice = first_choice(event)
        if not choice or choice.get("index", 0) != 0 or self._n_chars > MAX_TEXT_BYTES:
            return
        delta, logprobs = choice.get("delta"), choice.get("logprobs")
        if isinstance(delta, dict):
            self._add(self._text, delta.get("content"))
            self._add(self._refusal, delta.get("refusal"))
            if delta.get("tool_calls") or delta.get("function_call"):
                self._calls = [{}]  # that there are any; what they say is not kept
        if isinstance(logprobs, dict) and isinstance(content := logprobs.get("content"), list):
            self._logprobs += content
        reason = choice.get("finish_reason")
        self._reason = reason if isinstance(reason, str) else self._reason

    @property
    def whole(self) -> Any:
        """The completion; None where the stream broke off, or is too long to be kept."""
        if self._reason is None or self._n_chars > MAX_TEXT_BYTES:
            return None
        text, refusal = "".join(self._text), "".join(self._refusal)
        message = {"content": text, "refusal": refusal or None, "tool_calls": self._calls}
        logprobs = {"content": self._logprobs} if self._logprobs else None
        return {"choices": [{"message": message, "finish_reason": self._reason, "logprobs": logprobs}]}

    def _add(self, pieces: list[str], piece: Any) -> None:
        if isinstance(piece, str):
            pieces.append(piece)
            self._n_chars += len(piece)


class ResponsesGathering:
    """Keeps the last event of a response's stream, which holds all of it."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.whole: Any = None

    def take(self, event: dict[str, Any]) -> None:
        """Take the next event."""
        if event.get("type") in ("response.completed", "response.incomplete"):
            self.whole = event.get("response")
