"""Kept rows: labelled rows of earlier retrainings, so that a challenger learns from old and new.

One Parquet file (zstd), for its owner's eyes: prompts as logged, labels, scores and token counts, and of answers the
weak model's with its signals, which the second look is learned from. It is replaced as a whole. Rows that fall out of
the window leave it with the next retraining.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from turnout.serving.bundles.manifest import Pair
from turnout.serving.router.prompt import Prompt
from turnout.training.compaction.store import read_table, write_table
from turnout.training.errors import DataRefused
from turnout.training.logs.records import Label, LabelledRecord, Record, Response

METADATA_KEY = b"turnout.kept"
FORMAT_VERSION = 1
_PLAIN = ("task", "source", "language", "group_id", "session_id", "tenant")
_NUMBERS = ("created", "pair_propensity", "route_propensity")

_MEASURES = ("turns", "images", "tools", "wants_json")
"""Of a prompt, beside its text, what features are made of; what else it has, such as a cost estimate, is not kept."""
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("prompt", pa.string()),
        ("prompt_turns", pa.int32()),
        ("prompt_images", pa.int32()),
        ("prompt_tools", pa.int32()),
        ("prompt_wants_json", pa.bool_()),
        ("user_text", pa.string()),
        ("match", pa.int8()),
        ("labeller", pa.string()),
        ("label_confidence", pa.float64()),
        ("strong_score", pa.float64()),
        ("weak_score", pa.float64()),
        ("strong_tokens", pa.list_(pa.int64())),
        ("weak_tokens", pa.list_(pa.int64())),
        *((name, pa.string()) for name in _PLAIN),
        *((name, pa.float64()) for name in _NUMBERS),
        ("kept", pa.float64()),
        ("weak_response", pa.string()),
        ("weak_mean_logprob", pa.float64()),
        ("weak_self_check", pa.float64()),
        ("weak_finish_reason", pa.string()),
        ("weak_is_refusal", pa.bool_()),
    ]
)
"""Files of before lack what stands behind `kept`: their rows teach no second look."""


def identity_of(record: Record) -> tuple[object, ...]:
    """Return what is the same when the same row of a log is read again."""
    return record.id, record.created, record.prompt.text, *(getattr(record.prompt, name) for name in _MEASURES)


@dataclass(frozen=True)
class KeptRow:
    """A labelled row and when it was first kept, in seconds since 1970 (UTC)."""

    row: LabelledRecord
    kept_s: float

    @property
    def moment_s(self) -> float:
        """When the request was made; when the row was kept, where its log does not say."""
        created = self.row.record.created
        return self.kept_s if created is None else created

    @property
    def identity(self) -> tuple[object, ...]:
        """What is the same when the same row of a log is read again."""
        return identity_of(self.row.record)


class KeptOrigin(msgspec.Struct, frozen=True):
    """Whose answers the labels compare, and with what margin; kept in the metadata of the file."""

    pair: Pair
    margin: float
    version: int = FORMAT_VERSION

    @property
    def named(self) -> str:
        """What a store was kept for, for people."""
        return f"{self.pair.strong} / {self.pair.weak}, margin {self.margin:g}, format {self.version}"


class LadderOrigin(msgspec.Struct, frozen=True):
    """The same of a ladder: the names of its rungs, the cheapest first."""

    names: tuple[str, ...]
    margin: float
    version: int = FORMAT_VERSION

    @property
    def named(self) -> str:
        """What a store was kept for, for people."""
        return f"{','.join(self.names)}, margin {self.margin:g}, format {self.version}"


AnyOrigin = KeptOrigin | LadderOrigin


def read_kept(path: Path, origin: KeptOrigin) -> list[KeptRow]:
    """Return the rows of a store; none where there is no file yet.

    Raises:
        DataRefused: it is damaged, no store, or its labels compare other models or with another margin.
    """
    what = "kept rows with prompts; name the file that turnout retrain --kept wrote from such logs, or a new one"
    table = table_of(path, METADATA_KEY, origin, what)
    if table is None:
        return []
    return [KeptRow(_row(fields), fields["kept"]) for fields in table.to_pylist()]


def table_of(path: Path, key: bytes, origin: AnyOrigin, what: str) -> pa.Table | None:
    """Return a store as it stands; None where there is no file yet, refused without `key` or for another origin."""
    if not path.exists():
        return None
    table = read_table(path)
    metadata = (table.schema.metadata or {}).get(key)
    if metadata is None:
        raise DataRefused(f"{path}: no store of {what}")
    found = msgspec.json.decode(metadata, type=type(origin))
    if found != origin:
        raise DataRefused(f"{path}: kept for {found.named}, and this is for {origin.named}; name another file")
    return table


def write_kept(path: Path, rows: Sequence[KeptRow], origin: KeptOrigin) -> None:
    """Replace the store; a reader sees the old file or the whole new one, also after a power cut."""
    table = pa.Table.from_pylist([_fields(one) for one in rows], schema=SCHEMA)
    write_table(path, table.replace_schema_metadata({METADATA_KEY: msgspec.json.encode(origin)}))


def _fields(one: KeptRow) -> dict[str, Any]:
    record, label = one.row.record, one.row.label
    return fields_of_request(record, one.kept_s) | {
        "match": label.match,
        "labeller": label.labeller,
        "label_confidence": label.confidence,
        "strong_score": label.strong_score,
        "weak_score": label.weak_score,
        "strong_tokens": _tokens(record.strong),
        "weak_tokens": _tokens(record.weak),
        **answer_fields(record.weak),
    }


def fields_of_request(record: Record, kept_s: float) -> dict[str, Any]:
    """Return what is kept of a request, without its answers and labels."""
    return {
        "id": record.id,
        "prompt": record.prompt.text,
        **{f"prompt_{name}": getattr(record.prompt, name) for name in _MEASURES},
        "user_text": record.user_text,
        **{name: getattr(record, name) for name in (*_PLAIN, *_NUMBERS)},
        "kept": kept_s,
    }


def answer_fields(weak: Response | None) -> dict[str, Any]:
    """Return what the second look is learned from."""
    if weak is None or weak.content is None:
        return {}
    return {
        "weak_response": weak.content,
        "weak_mean_logprob": weak.mean_logprob,
        "weak_self_check": weak.self_check,
        "weak_finish_reason": weak.finish_reason,
        "weak_is_refusal": weak.is_refusal,
    }


def _tokens(answer: Response | None) -> list[int | None] | None:
    return None if answer is None else [answer.prompt_tokens, answer.completion_tokens]


def _row(fields: dict[str, Any]) -> LabelledRecord:
    record = replace(
        record_of(fields),
        strong=_response(fields["strong_score"], fields["strong_tokens"]),
        weak=with_answer(_response(fields["weak_score"], fields["weak_tokens"]), fields),
    )
    scores = fields["strong_score"], fields["weak_score"]
    return LabelledRecord(record, Label(fields["match"], fields["labeller"], fields["label_confidence"], *scores))


def record_of(fields: dict[str, Any]) -> Record:
    """Return a kept request without its answers."""
    return Record(
        id=fields["id"],
        prompt=Prompt(text=fields["prompt"], **{name: fields[f"prompt_{name}"] for name in _MEASURES}),
        user_text=fields["user_text"],
        **{name: fields[name] for name in (*_PLAIN, *_NUMBERS)},
    )


def with_answer(found: Response | None, fields: dict[str, Any]) -> Response | None:
    """Return the weak model's answer with what was kept of its text."""
    if found is None or fields.get("weak_response") is None:
        return found
    return replace(
        found,
        content=fields["weak_response"],
        mean_logprob=fields["weak_mean_logprob"],
        self_check=fields["weak_self_check"],
        finish_reason=fields["weak_finish_reason"],
        is_refusal=bool(fields["weak_is_refusal"]),
    )


def _response(score: float | None, tokens: list[int | None] | None) -> Response | None:
    return None if tokens is None else Response(None, score, prompt_tokens=tokens[0], completion_tokens=tokens[1])
