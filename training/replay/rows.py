"""Rows of a replay: from the logged request as it was sent, to the row that is written with both answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from turnout.serving.bundles.manifest import Pair
from turnout.serving.files import replacing
from turnout.serving.router.redaction import redact_json
from turnout.training.logs.cells import encode
from turnout.training.logs.entries import read_entries
from turnout.training.logs.reading import Reading
from turnout.training.logs.records import Record
from turnout.training.logs.stored_files import LogFile


class Skipped(StrEnum):
    """Why a row can't be replayed."""

    NO_REQUEST = "no_request"
    """The log holds the rendered conversation, not the messages that were sent."""
    IMAGES = "images"
    """What an image costs can't be bounded beforehand, so that no cap would hold."""


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """A row with what was asked.

    Attributes:
        record: the row as read.
        body: of the chat.completions call, as logged.
        route_propensity: probability that the router sent it to the strong model; 1 where the log says nothing.
    """

    record: Record
    body: dict[str, Any]
    route_propensity: float = 1.0


class KeptAnswer(msgspec.Struct, frozen=True):
    """What the cache keeps of an answer."""

    message: dict[str, Any]
    usage: dict[str, int]
    latency_ms: float


@dataclass(frozen=True, slots=True)
class ReplayedRow:
    """A replayed row."""

    request: ReplayRequest
    weak: KeptAnswer
    pair_propensity: float
    pair: Pair


def original_requests(
    logs: Sequence[LogFile], records: Sequence[Record], pair: Pair, reading: Reading
) -> list[ReplayRequest | Skipped]:
    """Read the bodies of these records' requests out of their logs again, in the order of the records."""
    wanted = {record.place: record for record in records}
    found: dict[tuple[str, int, int], ReplayRequest | Skipped] = {}
    for path in dict.fromkeys(logs):
        for line, index, entry in read_entries(path, pair, reading):
            if record := wanted.get((str(path), line, index)):
                found[record.place] = _request(record, entry.fields)
    return [found.get(record.place, Skipped.NO_REQUEST) for record in records]


def _request(record: Record, fields: Mapping[str, Any]) -> ReplayRequest | Skipped:
    if record.prompt.images:
        return Skipped.IMAGES

    def value(name: str) -> Any:
        return _plain(fields.get(name))

    body = value("request")
    if not isinstance(body, dict) and isinstance(value("messages"), list):
        body = {name: value(name) for name in ("messages", "tools", "response_format")}
    if not isinstance(body, dict) and value("prompt") is not None:
        body = {"messages": [{"role": "user", "content": record.prompt.text}]}
    if not isinstance(body, dict) or not _is_sendable(body.get("messages")):
        return Skipped.NO_REQUEST
    return ReplayRequest(record, body, 1.0 if record.route_propensity is None else record.route_propensity)


def _is_sendable(messages: Any) -> bool:
    """Whether these are messages as sent: readers of spans and spend logs keep no ids of tool calls."""
    return isinstance(messages, list) and all(
        isinstance(message, dict) and (message.get("role") != "tool" or "tool_call_id" in message)
        for message in messages
    )


def _plain(value: Any) -> Any:
    """Return decoded JSON, also where it stands as text in a cell or inside JSON."""
    decoded = value if isinstance(value, str) else _decoded(encode(value))
    if isinstance(decoded, str) and decoded[:1] in {"{", "["}:
        return _decoded(decoded.encode("utf-8", "surrogatepass"), decoded)
    return decoded


def _decoded(raw: bytes, otherwise: Any = None) -> Any:
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        return otherwise


def write_rows(path: Path, rows: Iterable[ReplayedRow], *, redacts: bool = False) -> None:
    """Write rows as JSONL, under the final name only when complete and on disk; `redacts` replaces personal data."""
    with replacing(path) as draft, draft.open("wb") as file:
        for row in rows:
            written = redact_json(_row(row)) if redacts else _row(row)
            file.write(msgspec.json.encode(written) + b"\n")


def _row(row: ReplayedRow) -> dict[str, Any]:
    record = row.request.record
    named = ("task", "source", "reference", "group_id", "session_id", "tenant", "created")
    optional = {name: value for name in named if (value := getattr(record, name)) is not None}
    return {
        "id": record.id,
        **optional,
        "request": row.request.body,
        "responses": {
            row.pair.strong: _strong(record),
            row.pair.weak: {**row.weak.message, "usage": row.weak.usage, "latency_ms": row.weak.latency_ms},
        },
        "pair_propensity": row.pair_propensity,
    }


def _strong(record: Record) -> dict[str, Any]:
    strong = record.strong
    if strong is None:
        return {}
    counts = {"prompt_tokens": strong.prompt_tokens, "completion_tokens": strong.completion_tokens}
    usage = {name: count for name, count in counts.items() if count is not None}
    scored = {} if strong.score is None else {"score": strong.score}
    return {"content": strong.content, **scored, **({"usage": usage} if usage else {})}
