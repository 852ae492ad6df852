"""OpenAI Batch API: lines of the input file and of the output file, tied by `custom_id` and model.

An input line has `custom_id`, `method`, `url` and `body`; an output line `custom_id`, `response` (with
`status_code` and `body`) and `error`. The files may come in any order; `training.logs.parts` puts the two together.
"""

from __future__ import annotations

from typing import Any

import msgspec

from turnout.serving.bundles.manifest import Pair
from turnout.serving.decision.model_names import is_model
from turnout.serving.decision.prices import SNAPSHOT
from turnout.training.logs.cells import CellKind, decode_fields
from turnout.training.logs.quarantine import Reason, RowRefused
from turnout.training.logs.readers.completion import completion_answer, read_completion, responses
from turnout.training.logs.readers.form import Entry, EntryPart, Fields, Form

URLS = frozenset({"/v1/chat/completions", "/v1/responses", "/v1/completions"})
FAILED_FROM = 400


class _Asked(msgspec.Struct, frozen=True):
    model: str | None = None


class _Input(msgspec.Struct, frozen=True):
    custom_id: str
    url: str
    body: _Asked


class _Response(msgspec.Struct, frozen=True):
    status_code: int = 200
    body: Any = None


class _Output(msgspec.Struct, frozen=True):
    custom_id: str
    response: _Response | None = None
    error: Any = None


_KINDS = dict.fromkeys(("body", "response", "error"), CellKind.STRUCTURE)


def _recognises(fields: Fields) -> bool:
    return "custom_id" in fields and ({"url", "body"} <= fields.keys() or "response" in fields)


def _entries(fields: Fields, pair: Pair) -> list[Entry]:
    return [_request(fields, pair) if "body" in fields else _answer(fields, pair)]


def _request(fields: Fields, pair: Pair) -> Entry:
    row = decode_fields(fields, _Input, _KINDS)
    if row.url not in URLS:
        raise RowRefused(Reason.NOT_CHAT)
    if not row.body.model:
        raise RowRefused(Reason.NO_MODEL)
    own = {"id": row.custom_id, "request": fields["body"]}
    return Entry(own, EntryPart.REQUEST, _key(row.custom_id, row.body.model, pair))


def _answer(fields: Fields, pair: Pair) -> Entry:
    row = decode_fields(fields, _Output, _KINDS)
    if row.error or row.response is None or row.response.status_code >= FAILED_FROM or row.response.body is None:
        raise RowRefused(Reason.FAILED)
    completion = read_completion(row.response.body)
    answer = completion_answer(completion)
    if answer is None:  # the output line of an embedding
        raise RowRefused(Reason.NOT_CHAT)
    found = responses((completion.model,), answer, pair)
    (model,) = found
    own = {"id": row.custom_id, "created": completion.created, "responses": found}
    return Entry(own, EntryPart.ANSWER, _key(row.custom_id, model, pair))


def _key(custom_id: str, model: str, pair: Pair) -> str:
    """Return what both lines have in common: the input names the model, the output its snapshot."""
    plain = next((name for name in (pair.strong, pair.weak) if is_model(model, name)), SNAPSHOT.sub("", model))
    return f"{plain}\n{custom_id}"


BATCH = Form("openai-batch", _recognises, _entries, title="files of the Batch API, of chat.completions or Responses")
