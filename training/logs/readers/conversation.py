"""Conversation: one row of ours with the answers of both models at several turns, read as one request a turn.

The row's `conversation` are messages, of which an assistant's may hold `responses` by model name, and `reference` and
`preference` of that turn. Each such turn is asked with the messages before it, in which stands what the log says was
answered, else the strong model's answer. What is known of one turn is never said of another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from turnout.serving.bundles.manifest import Pair
from turnout.serving.decision.model_names import is_model
from turnout.serving.router.prompt import Message
from turnout.training.logs.cells import CellKind, decode_fields, encode
from turnout.training.logs.quarantine import Reason
from turnout.training.logs.readers.completion import ChoiceMessage
from turnout.training.logs.readers.form import Entry, Fields

CONVERSATION = "conversation"
_REQUEST_FIELDS = frozenset({"request", "messages", "prompt"})
_OF_A_TURN = frozenset({CONVERSATION, "responses", "reference", "preference"})


class _Turn(msgspec.Struct, frozen=True):
    role: str
    content: str | list[Any] | None = None
    responses: dict[str, msgspec.Raw] | None = None
    reference: Any = None
    preference: str | None = None


class _Row(msgspec.Struct, frozen=True):
    conversation: list[_Turn]
    id: str | int | None = None
    session_id: str | int | None = None
    tools: Any = None
    response_format: Any = None


_KINDS = dict.fromkeys((CONVERSATION, "tools", "response_format"), CellKind.STRUCTURE)


def holds_conversation(fields: Fields) -> bool:
    """Whether a row of ours holds several turns, and no request of its own."""
    return CONVERSATION in fields and not fields.keys() & _REQUEST_FIELDS


def turn_entries(fields: Fields, pair: Pair) -> Iterator[Entry]:
    """Yield an entry for each assistant turn with answers; those whose conversation so far is not known, refused.

    Args:
        fields: of the row; what is not a turn's own is every turn's.
        pair: whose strong model's answer stands in the conversation where nothing says what was answered.
    """
    row = decode_fields(fields, _Row, _KINDS)
    shared = {name: value for name, value in fields.items() if name not in _OF_A_TURN}
    shared["session_id"] = row.session_id or row.id or session_of(row.conversation)
    asked, is_known, number = list[Message](), True, 0
    for turn in row.conversation:
        if turn.role == "assistant" and turn.responses is not None:
            number += 1
            request = {"messages": list(asked), "tools": row.tools, "response_format": row.response_format}
            told = {name: getattr(turn, name) for name in ("responses", "reference", "preference")}
            own_id = {} if row.id is None else {"id": turn_id(row.id, number)}
            yield Entry(shared | own_id | {"request": request} | told, reason=None if is_known else Reason.NO_PROMPT)
        content = turn.content if turn.content is not None else _answer(turn, pair.strong)
        is_known = is_known and (content is not None or turn.role != "assistant")
        asked.append(Message(turn.role, content))


def turn_id(row_id: str | int, number: int) -> str:
    """Return the id of a row's assistant turn, counted from 1."""
    return f"{row_id}#{number}"


def session_of(conversation: Sequence[msgspec.Struct]) -> str:
    """Return what stands for a conversation without an id: its turns have to stay together all the same."""
    return f"conversation-{blake2b(encode(conversation), digest_size=16).hexdigest()}"


def _answer(turn: _Turn, model: str) -> str | list[Any] | None:
    for name, answer in (turn.responses or {}).items():
        if is_model(name, model):
            reply = msgspec.json.decode(answer, type=ChoiceMessage | None)
            return None if reply is None else reply.content
    return None
