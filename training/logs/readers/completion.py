"""Completion: what a chat.completions request and response say, for every reader whose log holds them."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import msgspec

from turnout.serving.bundles.manifest import Pair
from turnout.serving.router.content import Content, read_content
from turnout.serving.router.prompt import Message
from turnout.training.logs.quarantine import Reason, RowRefused
from turnout.training.logs.readers.logprobs import output_logprobs
from turnout.training.logs.readers.models import model_of
from turnout.training.logs.readers.streams import completion_body

WITHHELD_MARKS = ("redacted-by-litellm", "litellm_truncated")
"""What LiteLLM writes in place of text: redaction on, or a text above its limit of characters."""


class ChoiceMessage(msgspec.Struct, frozen=True):
    """The message of a choice."""

    content: str | list[Any] | None = None
    refusal: str | None = None
    tool_calls: Any = None


class Choice(msgspec.Struct, frozen=True):
    """One of `choices`; only the first is read."""

    message: ChoiceMessage | None = None
    text: str | None = None
    logprobs: Any = None
    finish_reason: str | None = None


class Completion(msgspec.Struct, frozen=True):
    """The fields of an answer that labels depend on; the others are ignored.

    Attributes:
        choices: of chat.completions and completions.
        output: items of a Responses answer.
        content: blocks of a Messages answer.
    """

    id: str | None = None
    model: str | None = None
    created: float | None = None
    choices: list[Choice] | None = None
    usage: Any = None
    error: Any = None
    output: list[Any] | None = None
    content: str | list[Any] | None = None
    output_text: str | None = None
    stop_reason: str | None = None


def read_completion(value: Any) -> Completion:
    """Return the completion in a decoded value: as it is, as JSON text, or as the chunks or events of a stream.

    Raises:
        msgspec.MsgspecError: it is none of these.
        RowRefused: the stream ended in an error.
    """
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        with suppress(msgspec.DecodeError):
            value = msgspec.json.decode(value)
    body = completion_body(value)
    if isinstance(body, str):
        return Completion(choices=[Choice(ChoiceMessage(body))]) if body else Completion()
    if isinstance(body, list) and body and isinstance(body[-1], dict):
        body = {"output": body} if any("content" in one for one in body if isinstance(one, dict)) else body[-1]
    if isinstance(body, dict) and isinstance(body.get("response"), dict) and "choices" not in body:
        body = body["response"]  # what some loggers keep around a body
    return msgspec.convert(body, Completion, strict=False) if body is not None else Completion()


def completion_answer(completion: Completion) -> dict[str, Any] | None:
    """Return the first choice, or the items or blocks, as an entry of `responses`; None where there is none."""
    reply = _reply(completion)
    if reply is None:
        return None
    reason = completion.choices[0].finish_reason if completion.choices else completion.stop_reason
    answer = reply_answer(reply) | ({} if reason is None else {"finish_reason": reason})
    answer |= {} if completion.usage is None else {"usage": _usage(completion.usage)}
    logprobs = completion.choices[0].logprobs if completion.choices else output_logprobs(completion.output)
    return answer | ({} if logprobs is None else {"logprobs": logprobs})


def _reply(completion: Completion) -> ChoiceMessage | None:
    if completion.choices:
        first = completion.choices[0]
        return ChoiceMessage(first.text) if first.message is None and first.text is not None else first.message
    parts = completion.output if completion.output is not None else completion.content
    if parts is None:
        return None if completion.output_text is None else ChoiceMessage(completion.output_text)
    calls = [call for part in parts if isinstance(part, dict) and (call := _call(part))]
    return ChoiceMessage(read_content(parts, Content()).text or None, tool_calls=calls or None)


def _call(part: dict[str, Any]) -> dict[str, Any] | None:
    """Return a call of a tool, of either vendor's shape, as an entry of `tool_calls`."""
    if part.get("type") not in {"function_call", "tool_use"}:
        return None
    arguments = part.get("arguments", part.get("input"))
    text = arguments if isinstance(arguments, str) else msgspec.json.encode(arguments).decode()
    return {"function": {"name": part.get("name") or "", "arguments": text}}


def _usage(usage: Any) -> Any:
    """Return counts under the names of chat.completions."""
    if not isinstance(usage, dict) or "input_tokens" not in usage:
        return usage
    return {"prompt_tokens": usage.get("input_tokens"), "completion_tokens": usage.get("output_tokens")}


def reply_answer(reply: ChoiceMessage) -> dict[str, Any]:
    """Return a message as an entry of `responses`; a refusal is what the caller got, and so the answer's text."""
    answer: dict[str, Any] = {"content": reply.content or reply.refusal or reply.content}
    if reply.refusal and not reply.content:
        answer["refusal"] = reply.refusal
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


def is_withheld(content: Any) -> bool:
    """Whether the gateway put a mark of its own in place of the text."""
    text = read_content(content, Content()).text
    return any(mark in text for mark in WITHHELD_MARKS)
