"""Our own rows: the log of DESIGN section 3, a bare body, and the flat table; their fields are ours already.

A table of several pairs names them in `strong_model` and `weak_model`; rows of other pairs than the one asked for
are left out. A leaderboard's `-FC` behind a model's name says that it was given tools: the same model. A row with a
`conversation` is as many requests as it has turns with answers.
"""

from __future__ import annotations

from typing import Any

import msgspec

from turnout.serving.bundles.manifest import Pair
from turnout.serving.decision.model_names import is_model
from turnout.training.logs.cells import encode
from turnout.training.logs.quarantine import Reason
from turnout.training.logs.readers.conversation import holds_conversation, turn_entries
from turnout.training.logs.readers.form import Entry, Fields, Form

PAIR_COLUMNS = ("strong_model", "weak_model")
MODE_SUFFIX = "-FC"


def _recognises(fields: Fields) -> bool:
    return bool(fields)


def _entries(fields: Fields, pair: Pair) -> list[Entry]:
    if fields.get("wants_both") is False:
        # A decision that could have been flagged for both answers and was not: where it has both all the same,
        # somebody else chose it, and the probability of the flag is not that of the pair.
        fields = {name: value for name, value in fields.items() if name != "pair_propensity"}
    if holds_conversation(fields):
        return list(turn_entries(fields, pair))
    if not any(column in fields for column in PAIR_COLUMNS):
        return [Entry(dict(fields))]
    named = [_text(fields[column]) if column in fields else None for column in PAIR_COLUMNS]
    if all(
        model is None or is_model(model.removesuffix(MODE_SUFFIX), name)
        for model, name in zip(named, (pair.strong, pair.weak), strict=True)
    ):
        return [Entry(dict(fields))]
    return [Entry(dict(fields), key=" / ".join(model or "?" for model in named), reason=Reason.OTHER_PAIR)]


def _text(value: Any) -> str | None:
    return msgspec.json.decode(encode(value), type=str | None)


TURNOUT = Form(
    "turnout",
    _recognises,
    _entries,
    title="rows with our names: prompt or request, responses or strong_response and weak_response",
)
