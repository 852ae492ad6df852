"""OpenTelemetry: spans and log records of the GenAI semantic conventions and of other instrumentations.

A line (or document) of OTLP JSON holds `resourceSpans`, each with scopes and their spans; every span is a row of
its own, known by its number on the line; log records (`resourceLogs`) hold the same attributes. Phoenix and the
console exporters write one span a row, with `attributes` nested or under dotted names. Messages are read from the
span's attributes or from those of its events; `turnout.training.logs.readers.otel_messages` knows their shapes, older
ones included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from turnout.serving.bundles.manifest import Pair
from turnout.training.logs.cells import CellKind, cell, encode
from turnout.training.logs.quarantine import ROW_ERRORS, Reason, RowRefused, reason_of
from turnout.training.logs.readers.completion import is_withheld, responses
from turnout.training.logs.readers.form import Entry, Fields, Form
from turnout.training.logs.readers.instrumentations import SpanFound, flattened, read_instrumented
from turnout.training.logs.readers.otel_messages import Attributes, answer_of, request_of

CHAT_OPERATIONS = frozenset({"chat", "generate_content", "text_completion"})
ERROR_STATUS = (2, "STATUS_CODE_ERROR")
NANOSECONDS = 1e9
_SPAN_FIELDS = frozenset(
    {"context", "context.span_id", "span_id", "spanId", "span_kind", "spanKind", "trace_id", "traceId"}
)


class _Value(msgspec.Struct, frozen=True, rename="camel"):
    """An AnyValue: exactly one of these is set; whole numbers may stand as text."""

    string_value: str | None = None
    int_value: int | str | None = None
    double_value: float | None = None
    bool_value: bool | None = None
    array_value: _Array | None = None
    kvlist_value: _KeyValues | None = None


class _KeyValue(msgspec.Struct, frozen=True):
    key: str
    value: _Value = _Value()


class _Array(msgspec.Struct, frozen=True):
    values: list[_Value] = []


class _KeyValues(msgspec.Struct, frozen=True):
    values: list[_KeyValue] = []


class _Event(msgspec.Struct, frozen=True):
    name: str = ""
    attributes: list[_KeyValue] = []


class _Status(msgspec.Struct, frozen=True):
    code: int | str = 0


class _Span(msgspec.Struct, frozen=True, rename="camel"):
    trace_id: str = ""
    span_id: str = ""
    start_time_unix_nano: int | str | None = None
    attributes: list[_KeyValue] = []
    events: list[_Event] = []
    status: _Status = _Status()


class _Record(msgspec.Struct, frozen=True, rename="camel"):
    """A log record; its body may hold attributes too."""

    trace_id: str = ""
    span_id: str = ""
    time_unix_nano: int | str | None = None
    observed_time_unix_nano: int | str | None = None
    event_name: str = ""
    attributes: list[_KeyValue] = []
    body: _Value = _Value()


class _Scope(msgspec.Struct, frozen=True, rename="camel"):
    spans: list[msgspec.Raw] = []
    log_records: list[msgspec.Raw] = []


class _Resource(msgspec.Struct, frozen=True, rename="camel"):
    scope_spans: list[_Scope] = []
    scope_logs: list[_Scope] = []


_decode_resources = msgspec.json.Decoder(list[_Resource]).decode
_decode_span = msgspec.json.Decoder(_Span).decode
_decode_record = msgspec.json.Decoder(_Record).decode


def _recognises(fields: Fields) -> bool:
    return "resourceSpans" in fields


def _entries(fields: Fields, pair: Pair) -> list[Entry]:
    resources = _decode_resources(encode(fields["resourceSpans"]))
    spans = [span for resource in resources for scope in resource.scope_spans for span in scope.spans]
    return [_guarded(lambda raw: _entry(_decode_span(raw), pair), span) for span in spans]


def _entry(span: _Span, pair: Pair) -> Entry:
    attributes = _attributes(span.attributes)
    events = [(event.name, _attributes(event.attributes)) for event in span.events]
    own = {"id": span.span_id, "session_id": span.trace_id, "created": _seconds(span.start_time_unix_nano)}
    return span_entry(attributes, events, own, pair, is_failed=span.status.code in ERROR_STATUS)


def span_entry(
    attributes: Attributes,
    events: Sequence[tuple[str, Attributes]],
    own: dict[str, Any],
    pair: Pair,
    *,
    is_failed: bool,
) -> Entry:
    """Return the entry of a span whose attributes stand under dotted names.

    Args:
        attributes: of the span.
        events: of the span, by name.
        own: `id`, `session_id` and `created`, used where the attributes name no others.
        pair: whose answers count.
        is_failed: whether the call ended in an error.

    Raises:
        RowRefused: it is no chat, failed, or its messages were not captured.
    """
    found = read_instrumented(attributes)
    if found is None:
        operation = attributes.get("gen_ai.operation.name")
        asked, answering = attributes.get("gen_ai.request.model"), attributes.get("gen_ai.response.model")
        if operation not in CHAT_OPERATIONS if operation else not (asked or answering):
            raise RowRefused(Reason.NOT_CHAT)
    if is_failed:
        raise RowRefused(Reason.FAILED)
    if found is None or (found.request is None and "gen_ai.input.messages" in attributes):
        models = (attributes.get("gen_ai.response.model"), attributes.get("gen_ai.request.model"))
        found = SpanFound(request_of(attributes, events), answer_of(attributes, events), models)
    if found.request is None:
        raise RowRefused(Reason.NO_PROMPT)
    if any(is_withheld(one["content"] if isinstance(one, dict) else one.content) for one in _messages(found.request)):
        raise RowRefused(Reason.WITHHELD)
    fields = {
        "id": attributes.get("gen_ai.response.id") or own.get("id") or None,
        "session_id": attributes.get("gen_ai.conversation.id") or attributes.get("session.id") or own.get("session_id"),
        "created": own.get("created"),
        "request": found.request,
        "responses": responses(found.models, found.answer, pair),
    }
    return Entry(fields | {"session_id": fields["session_id"] or None})


def _messages(request: dict[str, Any]) -> Sequence[Any]:
    return request.get("messages") or ()


def _recognises_logs(fields: Fields) -> bool:
    return "resourceLogs" in fields


def _log_entries(fields: Fields, pair: Pair) -> list[Entry]:
    resources = _decode_resources(encode(fields["resourceLogs"]))
    records = [one for resource in resources for scope in resource.scope_logs for one in scope.log_records]
    return [_guarded(lambda raw: _record_entry(_decode_record(raw), pair), raw) for raw in records]


def _record_entry(record: _Record, pair: Pair) -> Entry:
    body = _plain(record.body)
    attributes = (body if isinstance(body, dict) else {}) | dict(_attributes(record.attributes))
    created = _seconds(record.time_unix_nano) or _seconds(record.observed_time_unix_nano)
    own = {"id": record.span_id, "session_id": record.trace_id, "created": created}
    events = [(record.event_name or str(attributes.get("event.name", "")), attributes)]
    return span_entry(attributes, events, own, pair, is_failed="error.type" in attributes)


def _recognises_spans(fields: Fields) -> bool:
    has_attributes = "attributes" in fields or any(name.startswith("attributes.") for name in fields)
    return has_attributes and bool(fields.keys() & _SPAN_FIELDS)


def _span_entries(fields: Fields, pair: Pair) -> list[Entry]:
    row = {name: msgspec.json.decode(encode(cell(value, CellKind.TEXT_OR_STRUCTURE))) for name, value in fields.items()}
    flat = flattened({name: value for name, value in row.items() if value is not None})
    attributes = {name.removeprefix("attributes."): one for name, one in flat.items() if name.startswith("attributes.")}
    if "span_kind" in flat:
        attributes.setdefault("openinference.span.kind", flat["span_kind"])
    listed = row.get("events") or ()
    events = [(str(one.get("name")), one.get("attributes") or {}) for one in listed if isinstance(one, dict)]
    own = {
        "id": next((flat[name] for name in ("context.span_id", "span_id", "spanId", "id") if flat.get(name)), None),
        "session_id": next(
            (flat[name] for name in ("context.trace_id", "trace_id", "traceId") if flat.get(name)), None
        ),
        "created": next((flat[name] for name in ("start_time", "startTime", "timestamp") if flat.get(name)), None),
    }
    status = str(flat.get("status_code") or flat.get("status.status_code") or flat.get("status.code") or "")
    return [span_entry(attributes, events, own, pair, is_failed=status.endswith("ERROR") or status == "2")]


def _guarded(read: Callable[[msgspec.Raw], Entry], raw: msgspec.Raw) -> Entry:
    try:
        return read(raw)
    except ROW_ERRORS as error:
        return Entry(reason=reason_of(error))


def _attributes(pairs: list[_KeyValue]) -> Attributes:
    return {pair.key: _plain(pair.value) for pair in pairs}


def _plain(value: _Value) -> Any:
    if value.array_value is not None:
        return [_plain(one) for one in value.array_value.values]
    if value.kvlist_value is not None:
        return _attributes(value.kvlist_value.values)
    if value.int_value is not None:
        return int(value.int_value)
    scalars = (value.string_value, value.double_value, value.bool_value)
    return next((scalar for scalar in scalars if scalar is not None), None)


def _seconds(nanoseconds: int | str | None) -> float | None:
    return int(nanoseconds) / NANOSECONDS if nanoseconds else None


OTEL = Form("otel", _recognises, _entries, title="spans of OpenTelemetry, OpenInference or the Vercel AI SDK")
OTEL_LOGS = Form("otel-logs", _recognises_logs, _log_entries, title="log records of OpenTelemetry")
SPANS = Form("spans", _recognises_spans, _span_entries, title="spans of OpenTelemetry or OpenInference, one a row")
