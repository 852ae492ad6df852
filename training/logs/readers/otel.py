"""OpenTelemetry: spans of the GenAI semantic conventions, as OTLP JSON.

A line (or document) of OTLP JSON holds `resourceSpans`, each with scopes and their spans; every span is a row of
its own, known by its number on the line. Messages are read from the span's attributes or from those of its
events; `turnout.training.logs.readers.otel_messages` knows their shapes, older ones included.
"""

from __future__ import annotations

from typing import Any

import msgspec

from turnout.serving.bundles.bundle import Pair
from turnout.training.logs.cells import encode
from turnout.training.logs.quarantine import ROW_ERRORS, Reason, RowRefused, reason_of
from turnout.training.logs.readers.completion import refuse_withheld, responses
from turnout.training.logs.readers.form import Entry, Fields, Form
from turnout.training.logs.readers.otel_messages import Attributes, answer_of, request_of

CHAT_OPERATIONS = frozenset({"chat", "generate_content", "text_completion"})
ERROR_STATUS = (2, "STATUS_CODE_ERROR")
NANOSECONDS = 1e9


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


class _Scope(msgspec.Struct, frozen=True):
    spans: list[msgspec.Raw] = []


class _Resource(msgspec.Struct, frozen=True, rename="camel"):
    scope_spans: list[_Scope] = []


_decode_resources = msgspec.json.Decoder(list[_Resource]).decode
_decode_span = msgspec.json.Decoder(_Span).decode


def _recognises(fields: Fields) -> bool:
    return "resourceSpans" in fields


def _entries(fields: Fields, pair: Pair) -> list[Entry]:
    resources = _decode_resources(encode(fields["resourceSpans"]))
    spans = [span for resource in resources for scope in resource.scope_spans for span in scope.spans]
    return [_span_entry(span, pair) for span in spans]


def _span_entry(raw: msgspec.Raw, pair: Pair) -> Entry:
    try:
        return _entry(_decode_span(raw), pair)
    except ROW_ERRORS as error:
        return Entry(reason=reason_of(error))


def _entry(span: _Span, pair: Pair) -> Entry:
    attributes = _attributes(span.attributes)
    operation = attributes.get("gen_ai.operation.name")
    asked, answering = attributes.get("gen_ai.request.model"), attributes.get("gen_ai.response.model")
    if operation not in CHAT_OPERATIONS if operation else not asked:
        raise RowRefused(Reason.NOT_CHAT)
    if span.status.code in ERROR_STATUS:
        raise RowRefused(Reason.FAILED)
    events = [(event.name, _attributes(event.attributes)) for event in span.events]
    request = request_of(attributes, events)
    if request is None:
        raise RowRefused(Reason.NO_PROMPT)
    refuse_withheld(request["messages"])
    own = {
        "id": attributes.get("gen_ai.response.id") or span.span_id or None,
        "session_id": attributes.get("gen_ai.conversation.id") or span.trace_id or None,
        "created": _seconds(span.start_time_unix_nano),
        "request": request,
        "responses": responses((answering, asked), answer_of(attributes, events), pair),
    }
    return Entry(own)


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


OTEL = Form("otel", _recognises, _entries)
