"""Call: one chat completion that may have to be paid for, and the key that says when two are the same."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from turnout.training.calls.tariff import Tariff


class CallFailure(StrEnum):
    """Why a call has no answer that could be kept."""

    MALFORMED = "malformed"
    """Answered, and paid for, each time in a form that can't be read."""
    UNAVAILABLE = "unavailable"
    """Time-outs, rate limits or server errors to the last attempt; a later run asks again."""
    REFUSED = "refused"
    """The endpoint won't take this request, such as one that is too long; a later run asks again."""
    CAPPED = "capped"
    """It would have gone beyond a cap; a later run with a higher cap asks."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of the endpoint.

    Attributes:
        message: the assistant's message, `content` and `tool_calls`; empty where the body held none.
        finish_reason: as the endpoint says; empty where it doesn't.
        prompt_tokens, completion_tokens, cached_tokens: as the endpoint counted them; None where it doesn't.
        latency_ms: from the request to the whole answer.
    """

    message: dict[str, Any]
    finish_reason: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int = 0
    latency_ms: float = 0.0

    @property
    def content(self) -> str:
        """The text; empty where there is none."""
        text = self.message.get("content")
        return text if isinstance(text, str) else ""


Keep = Callable[[Reply], bytes | None]
"""Says what of an answer is stored; None when the answer can't be read and has to be asked for again."""


@dataclass(frozen=True, slots=True)
class Call:
    """A chat completion.

    Attributes:
        key: SHA-256 (hex) over all that can change the answer.
        body: of the chat.completions call, the model included.
        tariff: what it costs.
    """

    key: str
    body: dict[str, Any]
    tariff: Tariff

    @property
    def model(self) -> str:
        """Who is asked, as the endpoint knows it."""
        return str(self.body["model"])

    @property
    def bound_usd(self) -> float:
        """Most that the call can cost."""
        return self.tariff.bound_usd(self.body)


def key_of(**parts: Any) -> str:
    """Return SHA-256 (hex) over named parts, whatever their order."""
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()


def text_digest(text: str) -> str:
    """Return SHA-256 (hex) of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
