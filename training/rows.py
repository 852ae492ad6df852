"""Rows: from named fields to `Record`, for the gateway log and the flat table alike.

Comes in: `RawRow`s of `training.tables` and the names of the pair. Goes out: `Record`, or `Rejected`.

A row holds its request as `request` (an OpenAI chat.completions body), as a bare body (`messages`), or
as text (`prompt`, with `prompt_turns` and its like in compacted logs); answers as `responses` by model name,
or as `strong_*` and `weak_*` columns.
Columns that hold structures may hold them as JSON text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Any

import msgspec

from serving.bundle import Pair
from serving.prices import SNAPSHOT
from serving.prompt import (
    ChatBody,
    ContentPart,
    Message,
    Prompt,
    ResponseFormat,
    clean_text,
    prompt_from_chat,
    prompt_from_text,
)
from training.quarantine import Reason, Rejected
from training.records import Record, Response
from training.tables import RawRow

PROMPT_FIELDS = frozenset({"request", "messages", "prompt"})
NESTED_FIELDS = frozenset({"request", "messages", "tools", "response_format", "responses"})
NUMERIC_FIELDS = frozenset({"strong_score", "weak_score", "created", "pair_propensity"})

MILLISECONDS_FROM = 1e11
"""A `created` above this is in milliseconds: in seconds it would be the year 5138."""


class Function(msgspec.Struct, frozen=True):
    """The function a model called; `arguments` is JSON text."""

    name: str = ""
    arguments: str = ""


class ToolCall(msgspec.Struct, frozen=True):
    """One entry of `tool_calls`."""

    function: Function = Function()


class Usage(msgspec.Struct, frozen=True):
    """Tokens as the provider counted them."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Answer(msgspec.Struct, frozen=True):
    """One model's entry under `responses`."""

    content: str | list[ContentPart] | None = None
    tool_calls: list[ToolCall] | None = None
    usage: Usage | None = None
    score: float | bool | None = None


class Row(msgspec.Struct, frozen=True):
    """All fields that are read, of either shape; others are ignored."""

    id: str | int | None = None
    prompt_id: str | int | None = None
    request: ChatBody | None = None
    messages: list[Message] | None = None
    tools: list[msgspec.Raw] | None = None
    response_format: ResponseFormat | None = None
    prompt: str | None = None
    prompt_turns: int | None = None
    prompt_images: int | None = None
    prompt_tools: int | None = None
    prompt_wants_json: bool | None = None
    question: str | None = None
    responses: dict[str, Answer | None] | None = None
    strong_response: str | None = None
    weak_response: str | None = None
    strong_score: float | bool | None = None
    weak_score: float | bool | None = None
    reference: Any = None
    preference: str | None = None
    task: str | None = None
    source: str | None = None
    group_id: str | int | None = None
    session_id: str | int | None = None
    tenant: str | int | None = None
    created: float | str | None = None
    pair_propensity: float | None = None


KNOWN_FIELDS = frozenset(Row.__struct_fields__)

_decode_row = msgspec.json.Decoder(Row).decode
_encoder = msgspec.json.Encoder(decimal_format="number")


def decode_row(raw: RawRow, file: str, pair: Pair, columns: Mapping[str, str]) -> Record | Rejected:
    """Return the row as a `Record`, or as `Rejected` with the reason; raises nothing on any row.

    Args:
        raw: the row's fields as they stand in the file.
        file: the name that the record carries.
        pair: whose answers are the strong and the weak one.
        columns: our field name to the name in the file, for those that differ.
    """
    if raw.reason:
        return Rejected(file, raw.line, raw.reason)
    fields = _known_fields(raw.fields, columns)
    if _has_nan(fields):
        return Rejected(file, raw.line, Reason.OUT_OF_RANGE, _own_id(fields))
    try:
        row = _decode_row(_encoder.encode(fields))
        return _record(row, file, raw.line, pair)
    except _Refused as refused:
        return Rejected(file, raw.line, refused.reason, _own_id(fields))
    except (msgspec.ValidationError, TypeError, ValueError, OverflowError) as error:
        damaged = isinstance(error, msgspec.DecodeError) and not isinstance(error, msgspec.ValidationError)
        return Rejected(file, raw.line, Reason.INVALID_JSON if damaged else Reason.WRONG_TYPE, _own_id(fields))
    except RecursionError:
        return Rejected(file, raw.line, Reason.INVALID_JSON, _own_id(fields))


class _Refused(Exception):  # carries a reason inside this module, never leaves it
    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


def _known_fields(fields: Mapping[str, Any], columns: Mapping[str, str]) -> dict[str, Any]:
    """Rename, drop what isn't read, and turn text cells into the JSON or the number that they hold."""
    renamed = {**fields, **{ours: fields[theirs] for ours, theirs in columns.items() if theirs in fields}}
    return {name: _cell(name, renamed[name]) for name in renamed.keys() & KNOWN_FIELDS}


def _cell(name: str, value: Any) -> Any:
    if isinstance(value, msgspec.Raw):
        return _embedded(value) if name in NESTED_FIELDS else value
    if isinstance(value, str) and name in NESTED_FIELDS:
        return msgspec.Raw(value.encode())
    if isinstance(value, str) and name in NUMERIC_FIELDS:
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _embedded(value: msgspec.Raw) -> msgspec.Raw:
    """Unwrap JSON that stands as text inside JSON."""
    if bytes(value)[:1] != b'"':
        return value
    try:
        return msgspec.Raw(msgspec.json.decode(value, type=str).encode())
    except msgspec.DecodeError:
        return value


def _has_nan(value: Any) -> bool:
    # JSON can't say NaN: encoding would turn it into null, and a broken score into a missing one.
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(_has_nan, value.values()))
    return isinstance(value, list) and any(map(_has_nan, value))


def _own_id(fields: Mapping[str, Any]) -> str | None:
    for name in ("id", "prompt_id"):
        value = fields.get(name)
        if isinstance(value, msgspec.Raw):
            try:
                value = msgspec.json.decode(value)
            except (msgspec.DecodeError, RecursionError):
                continue
        if isinstance(value, str | int):
            return str(value)
    return None


def _record(row: Row, file: str, line: int, pair: Pair) -> Record:
    prompt, user_text = _prompt(row)
    if prompt is None or (prompt.is_empty and not (prompt.images or prompt.tools)):
        raise _Refused(Reason.NO_PROMPT)
    own_id = row.prompt_id if row.id is None else row.id
    return Record(
        id=f"{PurePath(file).name}:{line}" if own_id is None else str(own_id),
        prompt=prompt,
        user_text=user_text,
        strong=_answer(row, pair.strong) or _flat_answer(row.strong_response, row.strong_score),
        weak=_answer(row, pair.weak) or _flat_answer(row.weak_response, row.weak_score),
        reference=_text(row.reference),
        preference=_preference(row.preference, pair),
        task=row.task,
        source=row.source,
        group_id=_optional_text(row.group_id),
        session_id=_optional_text(row.session_id),
        tenant=_optional_text(row.tenant),
        created=_epoch_s(row.created),
        pair_propensity=_propensity(row.pair_propensity),
        file=file,
        line=line,
    )


def _prompt(row: Row) -> tuple[Prompt | None, str]:
    body = row.request
    if body is None and row.messages is not None:
        body = ChatBody(row.messages, row.tools, row.response_format)
    if body is None:
        if row.prompt is None:
            return None, ""
        prompt = Prompt(
            text=clean_text(row.prompt),
            turns=max(1, row.prompt_turns or 1),
            images=row.prompt_images or 0,
            tools=row.prompt_tools or 0,
            wants_json=bool(row.prompt_wants_json),
        )
        return prompt, prompt_from_text(row.question).text if row.question else prompt.text
    prompt = prompt_from_chat(body)
    asked = [message for message in body.messages if message.role == "user"]
    return prompt, prompt_from_chat(ChatBody(asked[-1:])).text if asked else prompt.text


def is_model(logged: str, name: str) -> bool:
    """Whether a log's model name means the model `name`: the same, or a dated snapshot of it."""
    return logged == name or (logged.startswith(name) and SNAPSHOT.fullmatch(logged, len(name)) is not None)


def _answer(row: Row, model: str) -> Response | None:
    """Return the answer of the exact name, else of the latest snapshot."""
    names = sorted(
        (name for name in row.responses or () if is_model(name, model)), key=lambda name: (name != model, name)
    )
    answers = {name: row.responses[name] for name in names} if row.responses else {}
    if not answers:
        return None
    answer = answers.get(model) or answers[names[-1]]
    if answer is None:
        return None
    content = _content(answer)
    score = _score(answer.score)
    if content is None and score is None:
        return None
    usage = answer.usage or Usage()
    return Response(content, score, usage.prompt_tokens, usage.completion_tokens)


def _content(answer: Answer) -> str | None:
    """Return the answer's text; tool calls without text as JSON, so that two answers can be compared."""
    text = answer.content
    if isinstance(text, list):
        text = "\n".join(part.text for part in text if part.text)
    if text or not answer.tool_calls:
        return text
    calls = [{call.function.name: _arguments(call.function.arguments)} for call in answer.tool_calls]
    return msgspec.json.encode(calls, order="sorted").decode()


def _arguments(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text


def _flat_answer(content: str | None, score: float | None) -> Response | None:
    if content is None and score is None:
        return None
    return Response(content, _score(score))


def _score(score: float | None) -> float | None:
    if score is not None and not 0 <= score <= 1:
        raise _Refused(Reason.OUT_OF_RANGE)
    return None if score is None else float(score)


def _propensity(value: float | None) -> float | None:
    if value is not None and not 0 < value <= 1:
        raise _Refused(Reason.OUT_OF_RANGE)
    return value


def _preference(value: str | None, pair: Pair) -> str | None:
    if not value:
        return None
    names = {"strong": "strong", "weak": "weak", "tie": "tie", pair.strong: "strong", pair.weak: "weak"}
    if value not in names:
        raise _Refused(Reason.WRONG_TYPE)
    return names[value]


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


def _optional_text(value: str | int | None) -> str | None:
    return None if value is None else str(value)


def _epoch_s(created: float | str | None) -> float | None:
    if created is None:
        return None
    if isinstance(created, str):
        moment = datetime.fromisoformat(created)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    return created / 1000 if created > MILLISECONDS_FROM else created
