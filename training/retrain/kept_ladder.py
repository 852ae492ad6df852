"""Kept rows of a ladder: what every rung answered, so that a challenger learns all rungs from old and new.

One Parquet file (zstd), as `training.retrain.kept` is for pairs: the request, of each rung its label against the top,
its score, its tokens and its length, and of answers the first rung's, from which the second look is learned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from turnout.training.compaction.store import write_table
from turnout.training.dataset.ladder_costs import length_of
from turnout.training.logs.records import Label, Response
from turnout.training.logs.requests import LoggedRequest
from turnout.training.retrain.kept import (
    SCHEMA as PAIR_SCHEMA,
)
from turnout.training.retrain.kept import (
    LadderOrigin,
    answer_fields,
    fields_of_request,
    identity_of,
    record_of,
    table_of,
    with_answer,
)

METADATA_KEY = b"turnout.kept_ladder"
_OF_PAIR = {"match", "labeller", "label_confidence", "strong_score", "weak_score", "strong_tokens", "weak_tokens"}
_RUNG = pa.struct(
    [
        ("answered", pa.bool_()),
        ("score", pa.float64()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("length", pa.int64()),
        ("match", pa.int8()),
        ("labeller", pa.string()),
        ("confidence", pa.float64()),
        ("strong_score", pa.float64()),
        ("weak_score", pa.float64()),
    ]
)
SCHEMA = pa.schema(
    [*(field for field in PAIR_SCHEMA if field.name not in _OF_PAIR), pa.field("rungs", pa.list_(_RUNG))]
)


@dataclass(frozen=True)
class KeptRequest:
    """A request with the labels that its rungs have, k - 1 of them, and when it was first kept, in seconds (UTC)."""

    request: LoggedRequest
    labels: tuple[Label | None, ...]
    kept_s: float

    @property
    def moment_s(self) -> float:
        """When the request was made; when it was kept, where its log does not say."""
        created = self.request.record.created
        return self.kept_s if created is None else created

    @property
    def identity(self) -> tuple[object, ...]:
        """What is the same when the same request of a log is read again."""
        return identity_of(self.request.record)


def read_kept_ladder(path: Path, origin: LadderOrigin) -> list[KeptRequest]:
    """Return the rows of a store; none where there is no file yet.

    Raises:
        DataRefused: it is damaged, no store of a ladder, or its labels compare other models or with another margin.
    """
    what = "kept rows of a ladder; name the file that turnout retrain --kept wrote for these models, or a new one"
    table = table_of(path, METADATA_KEY, origin, what)
    return [] if table is None else [_kept(fields) for fields in table.to_pylist()]


def write_kept_ladder(path: Path, rows: Sequence[KeptRequest], origin: LadderOrigin) -> None:
    """Replace the store; a reader sees the old file or the whole new one, also after a power cut."""
    table = pa.Table.from_pylist([_fields(one) for one in rows], schema=SCHEMA)
    write_table(path, table.replace_schema_metadata({METADATA_KEY: msgspec.json.encode(origin)}))


def _fields(one: KeptRequest) -> dict[str, Any]:
    request = one.request
    labels = (*one.labels, None)
    rungs = [_rung(request.answers.get(number), label) for number, label in enumerate(labels)]
    return fields_of_request(request.record, one.kept_s) | answer_fields(request.answers.get(0)) | {"rungs": rungs}


def _rung(answer: Response | None, label: Label | None) -> dict[str, Any]:
    found: dict[str, Any] = {"answered": answer is not None}
    if answer is not None:
        found |= {name: getattr(answer, name) for name in ("score", "prompt_tokens", "completion_tokens")}
        found["length"] = length_of(answer)
    if label is not None:
        found |= {name: getattr(label, name) for name in Label.__slots__}
    return found


def _kept(fields: dict[str, Any]) -> KeptRequest:
    answers: dict[int, Response] = {}
    labels: list[Label | None] = []
    for number, one in enumerate(fields["rungs"]):
        if one["answered"]:
            tokens = {name: one[name] for name in ("prompt_tokens", "completion_tokens")}
            answers[number] = Response(None, one["score"], **tokens, length=one.get("length"))  # older stores lack it
        known = one["match"] is not None
        labels.append(Label(**{name: one[name] for name in Label.__slots__}) if known else None)
    first = with_answer(answers.get(0), fields)
    if first is not None:
        answers[0] = first
    record = replace(record_of(fields), weak=answers.get(0), strong=answers.get(len(labels) - 1))
    return KeptRequest(LoggedRequest(record, answers), tuple(labels[:-1]), fields["kept"])
