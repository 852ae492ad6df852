"""Pairs: rows with the body of a request and of its answer, whichever gateway, proxy or wrapper wrote them.

Comes in: the two bodies as they stand in a row: JSON, JSON as text, an HTTP message around a body, a stream. Goes out:
an `Entry`. Readers of such logs only say where the two stand and what the row's id and time are.
"""

from __future__ import annotations

from typing import Any

import msgspec

from turnout.serving.bundles.manifest import Pair
from turnout.training.logs.cells import CellKind, cell, encode
from turnout.training.logs.quarantine import Reason, RowRefused
from turnout.training.logs.readers.completion import completion_answer, is_withheld, read_completion, responses
from turnout.training.logs.readers.form import Entry

SHAPES = ("messages", "input", "prompt")
_AROUND = ("body", "json", "data", "payload", "request", "response")
"""Fields under which HTTP logs keep a body."""

FAILED_FROM = 400


def plain(value: Any) -> Any:
    """Return a cell as decoded JSON, or as the text that it is."""
    return msgspec.json.decode(encode(cell(value, CellKind.TEXT_OR_STRUCTURE)))


def body_of(value: Any, wanted: tuple[str, ...]) -> Any:
    """Return the body within an HTTP message; what has one of the wanted fields, or nothing around it, as it is."""
    found = value
    for _ in range(3):
        if not isinstance(found, dict) or any(found.get(name) is not None for name in wanted):
            break
        inner = next((plain(found[name]) for name in _AROUND if isinstance(found.get(name), dict | list | str)), None)
        if inner is None:
            break
        found = inner
    return found


def pair_entry(
    request: Any, response: Any, own: dict[str, Any], pair: Pair, models: tuple[str | None, ...] = ()
) -> Entry:
    """Return the entry of a request and its answer.

    Args:
        request: decoded.
        response: decoded.
        own: the row's other fields; its `id` and `created` are those of the answer where it has none.
        pair: whose answers count.
        models: names of the model that answered, the surest first; the body's own comes before them.

    Raises:
        RowRefused: the call failed, has no prompt, names no model, or its text was withheld.
    """
    asked = body_of(request, SHAPES)
    if not isinstance(asked, dict) or not any(asked.get(name) is not None for name in SHAPES):
        raise RowRefused(Reason.NO_PROMPT)
    if any(is_withheld(asked.get(name)) for name in ("input", "prompt")) or is_withheld(
        [one.get("content") for one in asked.get("messages") or () if isinstance(one, dict)]
    ):
        raise RowRefused(Reason.WITHHELD)
    if isinstance(response, dict) and _status(response) >= FAILED_FROM:
        raise RowRefused(Reason.FAILED)
    completion = read_completion(body_of(response, ("choices", "output", "content", "output_text", "error", "type")))
    answer = completion_answer(completion)
    if answer is None or completion.error:
        raise RowRefused(Reason.FAILED)
    fields = {"id": completion.id, "created": completion.created}
    fields |= {name: value for name, value in own.items() if value is not None}
    model = asked.get("model")
    names = (completion.model, *models, model if isinstance(model, str) else None)
    return Entry(fields | {"request": asked, "responses": responses(names, answer, pair)})


def _status(response: dict[str, Any]) -> int:
    found = next((response[name] for name in ("status_code", "statusCode", "status") if name in response), 0)
    return int(found) if isinstance(found, int | str) and str(found).isdigit() else 0
