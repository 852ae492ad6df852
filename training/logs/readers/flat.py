"""Flat: the table that most people have, with one model's answer a row: `model`, `prompt`, `response`, `score`.

Names that such tables use for the answer and for its score are all read; the model's name says whose answer it is.
"""

from __future__ import annotations

from typing import Any

import msgspec

from turnout.serving.bundles.manifest import Pair
from turnout.training.logs.cells import CellKind, cell, encode, number
from turnout.training.logs.quarantine import Reason, RowRefused
from turnout.training.logs.readers.completion import completion_answer, read_completion, responses
from turnout.training.logs.readers.form import Entry, Fields, Form

MODELS = ("model", "model_name", "model_id")
ANSWERS = ("response", "answer", "output", "completion", "generation", "model_response", "model_output", "prediction")
SCORES = ("score", "correct", "is_correct", "accuracy", "acc")
COUNTS = {
    "prompt_tokens": ("prompt_tokens", "input_tokens"),
    "completion_tokens": ("completion_tokens", "output_tokens"),
}
LOGPROBS = ("logprobs", "token_logprobs")
_OURS = frozenset({"responses", "strong_response", "weak_response", "strong_score", "weak_score", "conversation"})
_ASKED = frozenset({"prompt", "messages", "request", "question", "input"})


def _recognises(fields: Fields) -> bool:
    has_answer = any(name in fields for name in (*ANSWERS, *SCORES))
    return (
        any(name in fields for name in MODELS)
        and has_answer
        and not _OURS & fields.keys()
        and bool(_ASKED & fields.keys())
    )


def _entries(fields: Fields, pair: Pair) -> list[Entry]:
    answer = _answer(_value(fields, ANSWERS))
    score = number(_value(fields, SCORES))
    if score is not None:
        answer["score"] = score
    if not answer:
        raise RowRefused(Reason.FAILED)
    counts = {ours: number(_value(fields, theirs)) for ours, theirs in COUNTS.items()}
    if any(count is not None for count in counts.values()):
        answer["usage"] = counts
    if (logprobs := _value(fields, LOGPROBS)) is not None:
        answer["logprobs"] = logprobs
    model = _value(fields, MODELS)
    own = {name: value for name, value in fields.items() if name not in ANSWERS}
    if not {"prompt", "messages", "request"} & fields.keys():
        own["prompt"] = fields.get("question", fields.get("input"))
        own.pop("question", None)
    return [Entry(own | {"responses": responses((str(model) if model else None,), answer, pair)})]


def _value(fields: Fields, names: tuple[str, ...]) -> Any:
    """Return the first of these fields that has a value, decoded; JSON in a text as its structure."""
    for name in names:
        if name in fields:
            value = msgspec.json.decode(encode(cell(fields[name], CellKind.TEXT_OR_STRUCTURE)))
            if value is not None:
                return value
    return None


def _answer(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, dict | list):
        try:
            found = completion_answer(read_completion(value))
        except msgspec.MsgspecError:
            found = None
        return found or {"content": encode(value).decode()}
    return {"content": value if isinstance(value, str) else encode(value).decode()}


FLAT = Form("answers", _recognises, _entries, title="one answer a row: model, prompt, response")
