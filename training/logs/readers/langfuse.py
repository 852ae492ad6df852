"""Langfuse: exported observations (API, user interface, blob storage) and scores.

Names come in camel case (API, user interface) or snake case (blob storage); both are read. Observations of type
GENERATION are requests; what their integrations put into `input` and `output` comes in several shapes, all read
by `_messages` and `_answer`. A score names its observation and is tied to it by `training.logs.parts`. A page of the
API (`data` and `meta`) holds many rows.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

import msgspec

from turnout.serving.bundles.manifest import Pair
from turnout.serving.router.prompt import Message
from turnout.training.logs.carried import ANSWER_DEPENDS_ON
from turnout.training.logs.cells import CellKind, cell, decode_fields, encode
from turnout.training.logs.quarantine import ROW_ERRORS, Reason, RowRefused, reason_of
from turnout.training.logs.readers.completion import (
    ChoiceMessage,
    Completion,
    completion_answer,
    refuse_withheld,
    reply_answer,
    responses,
)
from turnout.training.logs.readers.form import Entry, EntryPart, Fields, Form

SCORED_TYPES = frozenset({"NUMERIC", "BOOLEAN"})
OBSERVATION_COLUMNS = frozenset({"tags", "trace_tags", "comments", "input", "output", "metadata", "prompt", "id"})
"""Columns of an observation that may hold lists and are no scores."""

_JSON_TEXT = re.compile(r'".*"', re.DOTALL)
_CAPITAL = re.compile(r"(?<!^)([A-Z])")


class _Usage(msgspec.Struct, frozen=True):
    input: int | None = None
    output: int | None = None


class _Observation(msgspec.Struct, frozen=True):
    type: str
    id: str | None = None
    trace_id: str | None = None
    session_id: str | None = None
    level: str | None = None
    provided_model_name: str | None = None
    model: str | None = None
    start_time: Any = None
    usage_details: _Usage | None = None
    usage: _Usage | None = None
    tool_definitions: dict[str, msgspec.Raw] | list[msgspec.Raw] | None = None
    model_parameters: Any = None


class _Score(msgspec.Struct, frozen=True):
    name: str
    value: float | None = None
    data_type: str = "NUMERIC"
    observation_id: str | None = None


class _Input(msgspec.Struct, frozen=True):
    messages: list[Message]
    tools: list[msgspec.Raw] | None = None
    response_format: Any = None


_KINDS = dict.fromkeys(("usage_details", "usage", "tool_definitions", "model_parameters"), CellKind.STRUCTURE)
_SCORE_KINDS = {"value": CellKind.NUMBER}


def _recognises(fields: Fields) -> bool:
    names = {_snake(name) for name in fields}
    return (
        {"trace_id", "type", "input"} <= names
        or {"name", "value", "observation_id"} <= names
        or names == {"data", "meta"}
    )


def _snake(name: str) -> str:
    return _CAPITAL.sub(r"_\1", name).lower()


def _entries(fields: Fields, pair: Pair) -> list[Entry]:
    if "data" not in fields:
        return [_entry(fields, pair), *_score_columns(fields)]
    rows = msgspec.json.decode(encode(fields["data"]), type=list[msgspec.Raw])
    return [_page_entry(row, pair) for row in rows]


def _page_entry(row: msgspec.Raw, pair: Pair) -> Entry:
    try:
        return _entry(msgspec.json.decode(row, type=dict[str, msgspec.Raw]), pair)
    except ROW_ERRORS as error:
        return Entry(reason=reason_of(error))


def _entry(fields: Fields, pair: Pair) -> Entry:
    fields = {_snake(name): value for name, value in fields.items()}
    if "value" in fields:
        return _score(fields)
    row = decode_fields(fields, _Observation, _KINDS)
    if row.type != "GENERATION":
        raise RowRefused(Reason.NOT_CHAT)
    if row.level == "ERROR":
        raise RowRefused(Reason.FAILED)
    own = {
        "id": row.id,
        "session_id": row.session_id or row.trace_id,
        "created": row.start_time,
        "request": _request(_payload(fields, "input"), row),
        "responses": _responses(_payload(fields, "output"), row, pair),
    }
    return Entry(own, key=row.id or "")


def _score_columns(fields: Fields) -> list[Entry]:
    """Return the scores that the user interface's exports hold in columns of their own, each a list of values."""
    found = list[Entry]()
    row_id = _plain_value(fields.get("id"))
    for name, value in fields.items():
        if _snake(name) in OBSERVATION_COLUMNS or not isinstance(row_id, str):
            continue
        values = _plain_value(value)
        if isinstance(values, list) and values and all(type(one) in (int, float, bool) for one in values):
            found.append(Entry({"name": name, "score": float(values[-1])}, EntryPart.SCORE, row_id))
    return found


def _plain_value(value: Any) -> Any:
    return msgspec.json.decode(encode(cell(value, CellKind.TEXT_OR_STRUCTURE)))


def _score(fields: Fields) -> Entry:
    row = decode_fields(fields, _Score, _SCORE_KINDS)
    if not row.observation_id or row.data_type not in SCORED_TYPES or row.value is None:
        raise RowRefused(Reason.OTHER_SCORE)
    return Entry({"name": row.name, "score": row.value}, EntryPart.SCORE, row.observation_id)


def _payload(fields: Fields, name: str) -> Any:
    """Return `input` or `output` as decoded JSON, or as the text that it is."""
    value = _plain_value(fields.get(name))
    if isinstance(fields.get(name), str) and isinstance(value, str) and _JSON_TEXT.fullmatch(value):
        with suppress(msgspec.DecodeError):  # exports of CSV before langfuse 3.90 wrote texts as JSON
            value = msgspec.json.decode(value)
    return value or None


def _request(payload: Any, row: _Observation) -> dict[str, Any]:
    if payload is None:
        raise RowRefused(Reason.NO_PROMPT)
    asked = msgspec.convert(payload, _Input) if _has(payload, "messages") else _Input(_messages(payload))
    refuse_withheld(asked.messages)
    offered = row.tool_definitions
    tools = asked.tools or (list(offered.values()) if isinstance(offered, dict) else offered)
    given = row.model_parameters if isinstance(row.model_parameters, dict) else {}
    parameters = {name: given[name] for name in ANSWER_DEPENDS_ON if name in given}
    return parameters | {"messages": asked.messages, "tools": tools, "response_format": asked.response_format}


def _has(payload: Any, name: str) -> bool:
    return isinstance(payload, dict) and name in payload


def _messages(payload: Any) -> list[Message]:
    """Return messages of a list of them, of a single one, or of any other payload as the text of one user message."""
    if _has(payload, "role"):
        payload = [payload]
    if isinstance(payload, list) and payload and all(_has(one, "role") for one in payload):
        return msgspec.convert(payload, list[Message])
    return [Message("user", payload if isinstance(payload, str) else msgspec.json.encode(payload).decode())]


def _responses(payload: Any, row: _Observation, pair: Pair) -> dict[str, Any]:
    answer = _answer(payload)
    used = row.usage_details or row.usage
    if answer is not None and used is not None:
        answer["usage"] = {"prompt_tokens": used.input, "completion_tokens": used.output}
    return responses((row.provided_model_name, row.model), answer, pair)


def _answer(payload: Any) -> dict[str, Any] | None:
    """Return the answer in a text, a message, a list of messages (its last) or a whole completion."""
    if isinstance(payload, list) and payload and _has(payload[-1], "role"):
        payload = payload[-1]
    if payload is None:
        return None
    if _has(payload, "choices"):
        return completion_answer(msgspec.json.decode(encode(payload), type=Completion))
    if _has(payload, "content") or _has(payload, "tool_calls"):
        return reply_answer(msgspec.json.decode(encode(payload), type=ChoiceMessage))
    return {"content": payload if isinstance(payload, str) else msgspec.json.encode(payload).decode()}


LANGFUSE = Form("langfuse", _recognises, _entries, has_scores=True, title="observations and scores of Langfuse")
