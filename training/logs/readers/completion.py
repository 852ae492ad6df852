"""Completion: what a chat.completions request and response say, for every reader whose log holds them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from turnout.serving.bundles.bundle import Pair
from turnout.serving.router.prompt import ContentPart, Message
from turnout.training.logs.quarantine import Reason, RowRefused
from turnout.training.logs.readers.models import model_of

WITHHELD_MARKS = ("redacted-by-litellm", "litellm_truncated")
"""What LiteLLM writes in place of text: redaction on, or a text above its limit of characters."""


class Reply(msgspec.Struct, frozen=True):
    """The message of a choice."""

    content: str | list[ContentPart] | None = None
    refusal: str | None = None
    tool_calls: Any = None


class Choice(msgspec.Struct, frozen=True):
    """One of `choices`; only the first is read."""

    message: Reply | None = None


class Completion(msgspec.Struct, frozen=True):
    """The fields of a chat.completion that labels depend on; the others are ignored."""

    id: str | None = None
    model: str | None = None
    created: float | None = None
    choices: list[Choice] | None = None
    usage: Any = None
    error: Any = None


def completion_answer(completion: Completion) -> dict[str, Any] | None:
    """Return the first choice as an entry of `responses`; None where there is none."""
    message = completion.choices[0].message if completion.choices else None
    if message is None:
        return None
    return reply_answer(message) | ({} if completion.usage is None else {"usage": completion.usage})


def reply_answer(reply: Reply) -> dict[str, Any]:
    """Return a message as an entry of `responses`; a refusal is what the caller got, and so the answer's text."""
    answer: dict[str, Any] = {"content": reply.content or reply.refusal or reply.content}
    return answer if reply.tool_calls is None else answer | {"tool_calls": reply.tool_calls}


def responses(names: Iterable[str | None], answer: dict[str, Any] | None, pair: Pair) -> dict[str, Any]:
    """Return `responses` with one answer under its model's name.

    Raises:
        RowRefused: nothing names the model, or the answer's text was withheld.
    """
    if answer is None:
        return {}
    if not (model := model_of(names, pair)):
        raise RowRefused(Reason.NO_MODEL)
    if is_withheld(answer.get("content")):
        raise RowRefused(Reason.WITHHELD)
    return {model: answer}


def refuse_withheld(messages: Iterable[Message]) -> None:
    """Raise where the text of a message was blanked or shortened."""
    if any(is_withheld(message.content) for message in messages):
        raise RowRefused(Reason.WITHHELD)


def is_withheld(content: str | list[ContentPart] | None) -> bool:
    """Whether the gateway put a mark of its own in place of the text."""
    texts = [content] if isinstance(content, str) else [part.text or "" for part in content or ()]
    return any(mark in text for text in texts for mark in WITHHELD_MARKS)
