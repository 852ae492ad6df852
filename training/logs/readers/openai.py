"""Request and response: rows with the body of a call and of its answer, in any vendor's shape.

What a proxy or a wrapper around an SDK writes (`request`, `response`), and the exports of Portkey (the same, with HTTP
messages around the bodies) and of Helicone (`request_body`, `response_body`). Fields beside the two that have one of
our names (`id`, `task`, `session_id`, `reference`, ...) are read as they are.
"""

from __future__ import annotations

from typing import Any

import msgspec

from turnout.serving.bundles.manifest import Pair
from turnout.training.logs.quarantine import Reason, RowRefused
from turnout.training.logs.readers.form import Entry, Fields, Form
from turnout.training.logs.readers.pairs import FAILED_FROM, pair_entry, plain

_HELICONE = (("request_body", "response_body"), ("requestBody", "responseBody"))
_PORTKEY = frozenset({"ai_model", "ai_org", "is_success", "req_units", "res_units", "response_status_code"})


def _recognises(fields: Fields) -> bool:
    return {"request", "response"} <= fields.keys() and "responses" not in fields


def _entries(fields: Fields, pair: Pair) -> list[Entry]:
    if plain(fields["response"]) is None or fields.get("request") is None:
        raise RowRefused(Reason.FAILED)
    own = {name: value for name, value in fields.items() if name not in {"request", "response"}}
    return [pair_entry(plain(fields["request"]), plain(fields["response"]), own, pair)]


def _recognises_helicone(fields: Fields) -> bool:
    return any({asked, answered} <= fields.keys() for asked, answered in _HELICONE)


def _helicone_entries(fields: Fields, pair: Pair) -> list[Entry]:
    asked, answered = next((names for names in _HELICONE if set(names) <= fields.keys()), ("", ""))
    if not asked:
        raise RowRefused(Reason.NO_PROMPT)
    status = _first(fields, "response_status", "responseStatus", "status")
    if isinstance(status, int | float | str) and str(status).split(".")[0].isdigit() and float(status) >= FAILED_FROM:
        raise RowRefused(Reason.FAILED)
    own = {
        "id": _first(fields, "request_id", "requestId", "response_id"),
        "created": _first(fields, "request_created_at", "requestCreatedAt", "response_created_at"),
        "session_id": _first(fields, "session_id", "helicone_session_id"),
    }
    models = tuple(_first(fields, name) for name in ("response_model", "responseModel", "request_model", "model"))
    return [pair_entry(plain(fields[asked]), plain(fields[answered]), own, pair, models)]


def _recognises_portkey(fields: Fields) -> bool:
    return _recognises(fields) and bool(_PORTKEY & fields.keys())


def _portkey_entries(fields: Fields, pair: Pair) -> list[Entry]:
    status = _first(fields, "response_status_code")
    if _first(fields, "is_success") is False or (isinstance(status, int) and status >= FAILED_FROM):
        raise RowRefused(Reason.FAILED)
    own = {
        "id": _first(fields, "id", "_id"),
        "created": _first(fields, "created_at", "time_of_generation"),
        "session_id": _first(fields, "trace_id"),
    }
    models = (_first(fields, "ai_model"),)
    return [pair_entry(plain(fields["request"]), plain(fields["response"]), own, pair, models)]


def _first(fields: Fields, *names: str) -> Any:
    """Return the decoded value of the first of these fields that has one."""
    for name in names:
        value = fields.get(name)
        value = msgspec.json.decode(value) if isinstance(value, msgspec.Raw) else value
        if value not in (None, ""):
            return value
    return None


OPENAI = Form(
    "openai",
    _recognises,
    _entries,
    title="bodies of chat.completions, Responses, completions and Messages calls, whole or in chunks of a stream",
)
HELICONE = Form("helicone", _recognises_helicone, _helicone_entries, title="an export of Helicone")
PORTKEY = Form("portkey", _recognises_portkey, _portkey_entries, title="an export of Portkey")
