"""Arena: conversations of two models with the same person, and whom that person preferred.

The tables of Chatbot Arena and of MT-bench's human judgements: `conversation_a` of `model_a`, `conversation_b` of
`model_b`, and a `winner`. It counts for the turn numbered `turn`, without that for the last one: the others were not
judged. Each assistant turn is a request, asked with the strong model's conversation so far.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from turnout.serving.bundles.manifest import Pair
from turnout.serving.decision.model_names import is_model
from turnout.serving.router.prompt import Message
from turnout.training.logs.cells import CellKind, decode_fields
from turnout.training.logs.quarantine import Reason, RowRefused
from turnout.training.logs.readers.completion import refuse_withheld
from turnout.training.logs.readers.conversation import session_of, turn_id
from turnout.training.logs.readers.form import Entry, Fields, Form

ARENA_FIELDS = frozenset({"conversation_a", "conversation_b", "model_a", "model_b"})


TIES = ("tie", "both_bad", "bothbad", "both_good")
"""Neither answer is preferred, so that the weak model's was not worse: `tie (bothbad)` of the older tables too."""


class _Row(msgspec.Struct, frozen=True):
    conversation_a: list[Message]
    conversation_b: list[Message]
    model_a: str
    model_b: str
    winner: str | None = None
    turn: int | None = None
    question_id: str | int | None = None
    conversation_id: str | int | None = None


_KINDS = dict.fromkeys(("conversation_a", "conversation_b"), CellKind.STRUCTURE)


def _recognises(fields: Fields) -> bool:
    return fields.keys() >= ARENA_FIELDS


def _entries(fields: Fields, pair: Pair) -> list[Entry]:
    row = decode_fields(fields, _Row, _KINDS)
    if is_model(row.model_a, pair.strong) and is_model(row.model_b, pair.weak):
        return _turns(row, pair, row.conversation_a, row.conversation_b, {"model_a": "strong", "model_b": "weak"})
    if is_model(row.model_b, pair.strong) and is_model(row.model_a, pair.weak):
        return _turns(row, pair, row.conversation_b, row.conversation_a, {"model_b": "strong", "model_a": "weak"})
    return [Entry(dict(fields), key=f"{row.model_a} / {row.model_b}", reason=Reason.OTHER_PAIR)]


def _turns(
    row: _Row, pair: Pair, strong: Sequence[Message], weak: Sequence[Message], sides: dict[str, str]
) -> list[Entry]:
    refuse_withheld([*strong, *weak])
    if _asked(strong) != _asked(weak):
        raise RowRefused(Reason.AMBIGUOUS)
    preferred = _preference(row.winner, sides)
    answered = [place for place, message in enumerate(strong) if message.role == "assistant"]
    judged = len(answered) if row.turn is None else row.turn
    own_id = row.question_id if row.conversation_id is None else row.conversation_id
    entries = list[Entry]()
    for number, place in enumerate(answered, start=1):
        told: dict[str, Any] = {
            "session_id": session_of(strong) if own_id is None else own_id,
            "request": {"messages": strong[:place]},
            "responses": {
                pair.strong: {"content": strong[place].content},
                pair.weak: {"content": weak[place].content},
            },
            "preference": preferred if number == judged else None,
        }
        entries.append(Entry(told if own_id is None else told | {"id": turn_id(own_id, number)}))
    return entries


def _asked(messages: Sequence[Message]) -> list[Message]:
    """Return the conversation without what the model said: its turns, and what was asked at each."""
    return [Message(message.role) if message.role == "assistant" else message for message in messages]


def _preference(winner: str | None, sides: dict[str, str]) -> str | None:
    if winner is None or winner.casefold().replace(" ", "_").startswith(TIES):
        return winner and "tie"
    if winner not in sides:
        raise RowRefused(Reason.WRONG_TYPE)
    return sides[winner]


ARENA = Form("arena", _recognises, _entries, title="conversations of two models, with a winner")
