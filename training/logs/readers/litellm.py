"""LiteLLM: rows of the proxy's table of spend logs, and the JSON that it hands to its loggers.

A spend log (`LiteLLM_SpendLogs`, as CSV, Parquet or JSON) keeps the request's body in `proxy_server_request` and
leaves `messages` empty; the logging payload (`StandardLoggingPayload`: files, S3, GCS, webhooks) has `messages`
and `model_parameters`. Both have the answer in `response`. Names after litellm 1.109.
"""

from __future__ import annotations

from typing import Any

import msgspec

from turnout.serving.bundles.manifest import Pair
from turnout.serving.router.prompt import Message
from turnout.training.logs.cells import CellKind, decode_fields
from turnout.training.logs.quarantine import Reason, RowRefused
from turnout.training.logs.readers.completion import (
    completion_answer,
    is_withheld,
    read_completion,
    refuse_withheld,
    responses,
)
from turnout.training.logs.readers.form import Entry, Fields, Form
from turnout.training.logs.readers.models import is_vendor_name

CHAT_CALLS = frozenset(
    {"completion", "acompletion", "text_completion", "atext_completion", "responses", "aresponses"}
    | {"anthropic_messages", "aanthropic_messages"}
)
_NULL = msgspec.Raw(b"null")


class _Asked(msgspec.Struct, frozen=True):
    """The body of the request, or what of it stands beside the messages; older proxies nest it under `body`."""

    messages: list[Message] | None = None
    input: Any = None
    prompt: Any = None
    tools: list[msgspec.Raw] | None = None
    response_format: Any = None
    body: msgspec.Raw = _NULL


class _Row(msgspec.Struct, frozen=True):
    call_type: str
    model: str | None = None
    model_group: str | None = None
    request_id: str | None = None
    id: str | None = None
    session_id: str | None = None
    trace_id: str | None = None
    status: str | None = None
    messages: msgspec.Raw = _NULL
    proxy_server_request: msgspec.Raw = _NULL
    model_parameters: msgspec.Raw = _NULL
    response: msgspec.Raw = _NULL
    prompt_tokens: float | None = None
    completion_tokens: float | None = None


_KINDS = dict.fromkeys(("messages", "response"), CellKind.TEXT_OR_STRUCTURE)
_KINDS |= dict.fromkeys(("proxy_server_request", "model_parameters"), CellKind.STRUCTURE)
_KINDS |= dict.fromkeys(("prompt_tokens", "completion_tokens"), CellKind.NUMBER)


_decode_asked = msgspec.json.Decoder(_Asked | None).decode
_decode_messages = msgspec.json.Decoder(list[Message]).decode


def _recognises(fields: Fields) -> bool:
    content = fields.keys() & {"messages", "response", "proxy_server_request"}
    return {"call_type", "model", "startTime"} <= fields.keys() and bool(content)


def _entries(fields: Fields, pair: Pair) -> list[Entry]:
    row = decode_fields(fields, _Row, _KINDS)
    if row.call_type not in CHAT_CALLS:
        raise RowRefused(Reason.NOT_CHAT)
    if row.status == "failure":
        raise RowRefused(Reason.FAILED)
    own = {
        "id": row.request_id or row.id,
        "session_id": row.session_id or row.trace_id,
        "created": fields["startTime"],
        "request": _request(row),
        "responses": _responses(row, pair),
    }
    return [Entry(own)]


def _request(row: _Row) -> Any:
    raw = row.proxy_server_request
    asked = _decode_asked(raw) or _Asked()
    if bytes(asked.body) != b"null":
        raw = asked.body
        asked = _decode_asked(raw) or _Asked()
    if asked.messages is None and (asked.input is not None or asked.prompt is not None):
        if is_withheld(asked.input) or is_withheld(asked.prompt):
            raise RowRefused(Reason.WITHHELD)
        return raw
    if asked.messages is not None and bytes(row.messages)[:1] not in (b"[", b'"'):
        if not asked.messages:
            raise RowRefused(Reason.NO_PROMPT)
        refuse_withheld(asked.messages)
        return raw
    parameters = _decode_asked(row.model_parameters) or _Asked()
    messages = _messages(row.messages) or asked.messages
    if not messages:
        raise RowRefused(Reason.NO_PROMPT)
    refuse_withheld(messages)
    return {
        "messages": messages,
        "tools": asked.tools or parameters.tools,
        "response_format": asked.response_format or parameters.response_format,
    }


def _messages(raw: msgspec.Raw) -> list[Message] | None:
    """Return the chat messages; an empty object, which is what a spend log keeps, as None."""
    match bytes(raw)[:1]:
        case b"[":
            return _decode_messages(raw)
        case b'"':
            return [Message("user", msgspec.json.decode(raw, type=str))]
        case _:
            return None


def _responses(row: _Row, pair: Pair) -> dict[str, Any]:
    if bytes(row.response)[:1] == b'"':
        text = msgspec.json.decode(row.response, type=str)
        if not text.lstrip().startswith(("data:", "event:")):
            return responses(_served(row, None), {"content": text} if text else None, pair)
    completion = read_completion(msgspec.json.decode(row.response))
    answer = completion_answer(completion)
    if answer is not None and completion.usage is None:
        counts = row.prompt_tokens, row.completion_tokens
        answer["usage"] = dict(zip(("prompt_tokens", "completion_tokens"), map(_count, counts), strict=True))
    return responses(_served(row, completion.model), answer, pair)


def _served(row: _Row, answering: str | None) -> tuple[str | None, ...]:
    """Return the model's names, the surest first.

    `model` is what the proxy called, unless it is the name of a deployment; the answer's `model` may be rewritten to
    the alias, and an alias may stand for any model.
    """
    if row.model and is_vendor_name(row.model):
        return (row.model,)
    return (answering, row.model_group, row.model)


def _count(tokens: float | None) -> int | None:
    return None if tokens is None else int(tokens)


LITELLM = Form(
    "litellm",
    _recognises,
    _entries,
    title="calls of LiteLLM: acompletion, aresponses, anthropic_messages",
)
