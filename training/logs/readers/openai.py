"""OpenAI pairs: rows with the body of a chat.completions `request` and of its `response`.

What a proxy or a wrapper around the SDK writes. Fields beside the two that have one of our names (`id`, `task`,
`session_id`, `reference`, ...) are read as they are.
"""

from __future__ import annotations

from typing import Any

import msgspec

from turnout.serving.bundles.bundle import Pair
from turnout.training.logs.cells import CellKind, decode_fields
from turnout.training.logs.quarantine import Reason, RowRefused
from turnout.training.logs.readers.completion import Completion, completion_answer, responses
from turnout.training.logs.readers.form import Entry, Fields, Form


class _Asked(msgspec.Struct, frozen=True):
    model: str | None = None


class _Row(msgspec.Struct, frozen=True):
    request: _Asked
    response: Completion | None = None


_KINDS = dict.fromkeys(("request", "response"), CellKind.STRUCTURE)


def _recognises(fields: Fields) -> bool:
    return {"request", "response"} <= fields.keys() and "responses" not in fields


def _entries(fields: Fields, pair: Pair) -> list[Entry]:
    row = decode_fields(fields, _Row, _KINDS)
    answer = completion_answer(row.response) if row.response else None
    if row.response is None or answer is None:
        raise RowRefused(Reason.FAILED)
    own: dict[str, Any] = {"id": row.response.id, "created": row.response.created}
    own |= {name: value for name, value in fields.items() if name != "response"}
    return [Entry(own | {"responses": responses((row.response.model, row.request.model), answer, pair)})]


OPENAI = Form("openai", _recognises, _entries)
