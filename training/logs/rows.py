"""Rows: from named fields to `Record`, for the gateway log and the flat table alike.

Comes in: `RawRow`s whose fields `turnout.training.logs.readers` has named as ours, and the names of the pair. Goes out:
`Record`, or `Rejected`.

A row holds its request as `request` (a body in any shape of `serving.router.bodies`), as a bare body (`messages`), or
as text (`prompt`, with `prompt_turns` and its like in compacted logs); answers as `responses` by model name
(`training.logs.answers`), or as `strong_*` and `weak_*` columns.
Columns that hold structures may hold them as JSON text. What labels don't rest on (`OPTIONAL`) costs a row that field
alone where it can't be read; a score, a reference or a propensity that can't be read costs the row.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import PurePath
from typing import Any

import msgspec

from turnout.serving.bundles.manifest import Pair
from turnout.serving.decision.model_names import is_model
from turnout.serving.router.bodies import read_body
from turnout.serving.router.prompt import Prompt, clean_text, prompt_from_text, prompt_of
from turnout.training.errors import DataRefused
from turnout.training.logs.answers import answer_of, latency_of, logprobs_of, score_of
from turnout.training.logs.carried import carried_by
from turnout.training.logs.cells import CellKind, cell, encode
from turnout.training.logs.quarantine import ROW_ERRORS, Reason, Rejected, RowRefused, reason_of
from turnout.training.logs.records import Record, Response
from turnout.training.logs.tables import RawRow
from turnout.training.logs.times import epoch_s

PROMPT_FIELDS = frozenset({"request", "messages", "prompt"})
_KINDS = dict.fromkeys(("request", "messages", "tools", "response_format", "responses"), CellKind.STRUCTURE)
_SIGNALS = ("strong_mean_logprob", "weak_mean_logprob", "strong_self_check", "weak_self_check")
_LATENCIES = ("strong_latency_ms", "weak_latency_ms")
_KINDS |= dict.fromkeys(("strong_token_logprobs", "weak_token_logprobs"), CellKind.STRUCTURE)
_KINDS |= dict.fromkeys(
    ("strong_score", "weak_score", "pair_propensity", "route_propensity", *_SIGNALS, *_LATENCIES), CellKind.NUMBER
)

TEXTS = frozenset({"task", "source", "language"})
NAMES = frozenset({"id", "prompt_id", "group_id", "session_id", "tenant"})
OPTIONAL = TEXTS | NAMES | {"created", "question"}
"""Fields without which a row teaches the same."""

_NULL = msgspec.Raw(b"null")


class Row(msgspec.Struct, frozen=True):
    """All fields that are read, of either shape; others are ignored."""

    id: str | int | None = None
    prompt_id: str | int | None = None
    request: msgspec.Raw = _NULL
    messages: msgspec.Raw = _NULL
    tools: msgspec.Raw = _NULL
    response_format: msgspec.Raw = _NULL
    prompt: str | None = None
    prompt_turns: int | None = None
    prompt_images: int | None = None
    prompt_tools: int | None = None
    prompt_wants_json: bool | None = None
    question: str | None = None
    responses: dict[str, msgspec.Raw] | None = None
    strong_response: str | None = None
    weak_response: str | None = None
    strong_token_logprobs: Any = None
    weak_token_logprobs: Any = None
    strong_mean_logprob: float | None = None
    weak_mean_logprob: float | None = None
    strong_self_check: float | None = None
    weak_self_check: float | None = None
    strong_latency_ms: Any = None
    weak_latency_ms: Any = None
    strong_score: float | bool | None = None
    weak_score: float | bool | None = None
    reference: Any = None
    preference: str | None = None
    task: str | None = None
    source: str | None = None
    language: str | None = None
    group_id: str | int | None = None
    session_id: str | int | None = None
    tenant: str | int | None = None
    created: Any = None
    pair_propensity: float | None = None
    route_propensity: float | None = None


KNOWN_FIELDS = frozenset(Row.__struct_fields__)


def check_fields(columns: Mapping[str, str]) -> None:
    """Refuse a column map that names a field of ours that there is not.

    Raises:
        DataRefused: the message lists the fields.
    """
    if unknown := sorted(columns.keys() - KNOWN_FIELDS):
        raise DataRefused(
            f"column map: unknown field {', '.join(unknown)}; known are: {', '.join(sorted(KNOWN_FIELDS))}"
        )


_decode_row = msgspec.json.Decoder(Row).decode


def decode_row(raw: RawRow, file: str, pair: Pair) -> Record | Rejected:
    """Return the row as a `Record`, or as `Rejected` with the reason; raises nothing on any row.

    Args:
        raw: a row whose fields are named as ours.
        file: the name that the record carries.
        pair: whose answers are the strong and the weak one.
    """
    if raw.reason:
        return _rejected(raw, file, raw.reason)
    fields = {
        name: value if (kind := _KINDS.get(name)) is None else cell(value, kind)
        for name, value in raw.fields.items()
        if name in KNOWN_FIELDS
    }
    try:
        odd = _repair(fields) if _is_odd(fields) else []
        if _has_nan(fields):
            return _rejected(raw, file, Reason.OUT_OF_RANGE)
        try:
            row = _decode_row(encode(fields))
        except msgspec.ValidationError:
            odd = _repair(fields)
            row = _decode_row(encode(fields))
        return _record(row, file, raw, pair, odd)
    except ROW_ERRORS as error:
        return _rejected(raw, file, reason_of(error))


def _is_odd(fields: Mapping[str, Any]) -> bool:
    """Whether an optional field holds what JSON can't say; what is merely of another type shows when it is decoded."""
    return any(isinstance(fields[name], _ODD) for name in OPTIONAL & fields.keys())


_ODD = (float, dict, list, datetime)


def _repair(fields: dict[str, Any]) -> list[str]:
    """Turn optional fields into what they are read as; return the names of those that can't be, which are left out."""
    odd = list[str]()
    for name in sorted(OPTIONAL & fields.keys()):
        value = fields.pop(name)
        try:
            plain = msgspec.json.decode(value) if isinstance(value, msgspec.Raw) else value
            fields[name] = epoch_s(plain) if name == "created" else _named(plain, is_text=name not in NAMES)
        except ROW_ERRORS:
            odd.append(name)
    return odd


def _named(value: Any, *, is_text: bool) -> str | None:
    """Return an id, or a word such as a task, as text; a word has no structure."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float) and not isinstance(value, bool):
        return str(int(value)) if float(value).is_integer() else str(value)
    if is_text:
        raise TypeError("no text")
    return encode(value).decode()


def _rejected(raw: RawRow, file: str, reason: Reason) -> Rejected:
    return Rejected(file, raw.line, reason, _own_id(raw.fields), raw.index)


def _has_nan(value: Any) -> bool:
    # JSON can't say NaN: encoding would turn it into null, and a broken score into a missing one.
    if isinstance(value, msgspec.Raw | str):  # most cells
        return False
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


def _record(row: Row, file: str, raw: RawRow, pair: Pair, odd: list[str]) -> Record:
    prompt, user_text = _prompt(row)
    if prompt is None or prompt.is_nothing:
        raise RowRefused(Reason.NO_PROMPT)
    if prompt.is_beyond_features:
        raise RowRefused(Reason.NOT_TEXT)
    own_id = row.prompt_id if row.id is None else row.id
    created = _created(row.created, odd)
    strong = answer_of(row.responses or {}, pair.strong, odd) or _flat_answer(row, "strong", odd)
    weak = answer_of(row.responses or {}, pair.weak, odd) or _flat_answer(row, "weak", odd)
    place = f"{raw.line}.{raw.index}" if raw.index else f"{raw.line}"
    body = _body(row) if (strong is None) != (weak is None) else None  # only such a row may be joined with another
    return Record(
        id=f"{PurePath(file).name}:{place}" if own_id is None else str(own_id),
        prompt=prompt,
        user_text=user_text,
        strong=strong,
        weak=weak,
        reference=_text(row.reference),
        preference=_preference(row.preference, pair),
        task=_shared(row.task),
        source=_shared(row.source),
        language=_shared(row.language),
        group_id=_optional_text(row.group_id),
        session_id=_optional_text(row.session_id),
        tenant=_optional_text(row.tenant),
        created=created,
        pair_propensity=_propensity(row.pair_propensity),
        route_propensity=_propensity(row.route_propensity),
        file=file,
        line=raw.line,
        index=raw.index,
        odd_fields=tuple(odd),
        other_models=() if strong or weak else _others(row, pair),
        carried=carried_by(body) if body else "",
    )


def _shared(name: str | None) -> str | None:
    """Return the one copy of a name that many rows have: 170 bytes a row."""
    return None if name is None else sys.intern(name)


def _others(row: Row, pair: Pair) -> tuple[str, ...]:
    names = row.responses or {}
    return tuple(name for name in names if not is_model(name, pair.strong) and not is_model(name, pair.weak))


def _prompt(row: Row) -> tuple[Prompt | None, str]:
    body = _body(row)
    if body is not None:
        found = read_body(body)
        prompt = prompt_of(found)
        asked = [text for role, text in found.texts if role == "user"]
        return prompt, clean_text(asked[-1]) if asked and len(found.texts) > 1 else prompt.text
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


def _body(row: Row) -> bytes | None:
    """Return the JSON of the request, of whichever shape; None where the row holds a text."""
    if bytes(row.request) != b"null":
        return bytes(row.request)
    if bytes(row.messages) == b"null":
        return None
    return encode({"messages": row.messages, "tools": row.tools, "response_format": row.response_format})


def _flat_answer(row: Row, tier: str, odd: list[str]) -> Response | None:
    content, score = getattr(row, f"{tier}_response"), getattr(row, f"{tier}_score")
    if content is None and score is None:
        return None
    logprobs = logprobs_of(getattr(row, f"{tier}_token_logprobs"), odd)
    return Response(
        content,
        score_of(score),
        token_logprobs=logprobs,
        mean_logprob=getattr(row, f"{tier}_mean_logprob") if logprobs is None else sum(logprobs) / len(logprobs),
        self_check=getattr(row, f"{tier}_self_check"),
        latency_ms=latency_of(getattr(row, f"{tier}_latency_ms"), odd),
    )


def _propensity(value: float | None) -> float | None:
    if value is not None and not 0 < value <= 1:
        raise RowRefused(Reason.OUT_OF_RANGE)
    return value


def _preference(value: str | None, pair: Pair) -> str | None:
    if not value:
        return None
    names = {"strong": "strong", "weak": "weak", "tie": "tie", pair.strong: "strong", pair.weak: "weak"}
    if value not in names:
        raise RowRefused(Reason.WRONG_TYPE)
    return names[value]


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()


def _optional_text(value: str | int | None) -> str | None:
    return None if value is None else str(value)


def _created(created: Any, odd: list[str]) -> float | None:
    try:
        return epoch_s(created)
    except ROW_ERRORS:
        odd.append("created")
        return None
